# The audit sidecar in an image of its own: the binary, the libraries that it names, certificates, and nothing else. There
# is no shell and no package manager in it, and nothing in it is written.
#
#   docker build -f infra/kubernetes/audit-sidecar.Dockerfile -t keytrail-audit-sidecar .      from the repository's root

FROM rust:1.95.0-bookworm AS build
WORKDIR /keytrail
COPY . .
RUN cargo build --release --locked --package keytrail-audit-sidecar \
 && infra/kubernetes/root-folder target/release/audit-sidecar /image

FROM scratch
COPY --from=build /image /
USER 65532:65532
ENTRYPOINT ["/usr/bin/audit-sidecar"]
CMD ["run", "--config", "/etc/keytrail/audit-sidecar.toml"]
