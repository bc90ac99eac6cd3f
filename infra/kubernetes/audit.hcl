# The sidecar, as OpenBao's only audit device: a request that it does not take is refused. TOKEN is the secret of both.
audit "http" "keytrail" {
  options {
    uri     = "http://127.0.0.1:8209/v1/lines"
    headers = "{\"Authorization\":[\"Bearer TOKEN\"]}"
  }
}
