//! The archive's columns: one table that Parquet schema, row digest, documentation and tests read.

/// How a column's value is typed in Parquet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// UTF-8 string.
    Text,
    /// 64-bit signed integer.
    Int,
    /// Boolean.
    Bool,
    /// Microseconds since 1970-01-01, UTC.
    Time,
    /// List of UTF-8 strings without nulls.
    List,
    /// Bytes as they came.
    Binary,
}

macro_rules! columns {
    ($($variant:ident, $name:literal, $field:literal, $kind:ident, $doc:literal;)*) => {
        /// A column of the archive. The order is that of the names: the row digest depends on it.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        #[repr(u8)]
        pub enum Column { $(#[doc = $doc] $variant,)* }

        impl Column {
            /// All columns, by ascending name.
            pub const ALL: [Self; [$($name),*].len()] = [$(Self::$variant),*];

            /// The Parquet name, e.g. `event_action`.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// The ECS or `keytrail.*` field, e.g. `event.action`.
            pub const fn field(self) -> &'static str {
                match self { $(Self::$variant => $field,)* }
            }

            /// The type.
            pub const fn kind(self) -> Kind {
                match self { $(Self::$variant => Kind::$kind,)* }
            }

            /// One line of documentation.
            pub const fn doc(self) -> &'static str {
                match self { $(Self::$variant => $doc,)* }
            }
        }
    };
}

columns! {
    CloudAccountId, "cloud_account_id", "cloud.account.id", Text, "account in which the event was recorded";
    CloudAccountName, "cloud_account_name", "cloud.account.name", Text, "name of the account, by the table of accounts";
    CloudProjectId, "cloud_project_id", "cloud.project.id", Text, "project in which the event was recorded";
    CloudProvider, "cloud_provider", "cloud.provider", Text, "the cloud that recorded the event: `aws`, `gcp` or `azure`";
    CloudRegion, "cloud_region", "cloud.region", Text, "region of the service that was called";
    CloudServiceName, "cloud_service_name", "cloud.service.name", Text, "service that was called, e.g. `kms`";
    ErrorCode, "error_code", "error.code", Text, "the producer's error code (PKCS#11: `CKR_*`)";
    ErrorMessage, "error_message", "error.message", Text, "the producer's error text, secrets masked";
    EventAction, "event_action", "event.action", Text, "what was done, as the producer names it";
    EventCategory, "event_category", "event.category", List, "ECS categories";
    EventCode, "event_code", "event.code", Text, "the producer's own kind of record, e.g. `AwsApiCall`";
    EventDataset, "event_dataset", "event.dataset", Text, "dataset, which is also the partition's";
    EventDuration, "event_duration", "event.duration", Int, "nanoseconds that the operation took";
    EventHash, "event_hash", "event.hash", Text, "SHA-256 of event_original, 64 hex digits";
    EventId, "event_id", "event.id", Text, "the producer's own id";
    EventIngested, "event_ingested", "event.ingested", Time, "when keytrail read the event";
    EventKind, "event_kind", "event.kind", Text, "ECS kind";
    EventModule, "event_module", "event.module", Text, "the producing product";
    EventOriginal, "event_original", "event.original", Binary, "the bytes as they came";
    EventOutcome, "event_outcome", "event.outcome", Text, "`success`, `failure` or `unknown`";
    EventProvider, "event_provider", "event.provider", Text, "what produced the event, e.g. `kms.amazonaws.com`";
    EventReason, "event_reason", "event.reason", Text, "why, as the producer says it";
    EventSequence, "event_sequence", "event.sequence", Int, "the producer's sequence number";
    EventType, "event_type", "event.type", List, "ECS types";
    KeytrailAccountOwner, "keytrail_account_owner", "keytrail.account.owner", Text, "who owns the account";
    KeytrailAccountTier, "keytrail_account_tier", "keytrail.account.tier", Text, "environment of the account, e.g. `production`";
    KeytrailActionClass, "keytrail_action_class", "keytrail.action.class", Text, "action class of key management";
    KeytrailActorAccessKeyId, "keytrail_actor_access_key_id", "keytrail.actor.access_key_id", Text, "access key id or token accessor";
    KeytrailActorAccountId, "keytrail_actor_account_id", "keytrail.actor.account_id", Text, "account of the caller";
    KeytrailActorArn, "keytrail_actor_arn", "keytrail.actor.arn", Text, "the caller's ARN";
    KeytrailActorInvokedBy, "keytrail_actor_invoked_by", "keytrail.actor.invoked_by", Text, "service that called for the actor";
    KeytrailActorIssuerArn, "keytrail_actor_issuer_arn", "keytrail.actor.issuer_arn", Text, "role or user that issued the session";
    KeytrailActorMfa, "keytrail_actor_mfa", "keytrail.actor.mfa", Bool, "the session used a second factor";
    KeytrailActorPerson, "keytrail_actor_person", "keytrail.actor.person", Text, "person or workload behind the caller, by the table of principals";
    KeytrailActorPolicies, "keytrail_actor_policies", "keytrail.actor.policies", List, "policies attached to the caller's token, or groups that it is in";
    KeytrailActorPrivileged, "keytrail_actor_privileged", "keytrail.actor.privileged", Bool, "the caller is declared privileged";
    KeytrailActorRole, "keytrail_actor_role", "keytrail.actor.role", Text, "role of the caller in the organization";
    KeytrailActorService, "keytrail_actor_service", "keytrail.actor.service", Bool, "the caller is declared a service, no person";
    KeytrailActorSession, "keytrail_actor_session", "keytrail.actor.session", Text, "role session name, or handle of an HSM's session";
    KeytrailActorTeam, "keytrail_actor_team", "keytrail.actor.team", Text, "team of the caller";
    KeytrailActorType, "keytrail_actor_type", "keytrail.actor.type", Text, "kind of identity, e.g. `AssumedRole`";
    KeytrailBatchCount, "keytrail_batch_count", "keytrail.batch.count", Int, "operations that one record stands for";
    KeytrailEncryptionContext, "keytrail_encryption_context", "keytrail.encryption_context", Text, "encryption context as JSON text, secrets masked";
    KeytrailGrantId, "keytrail_grant_id", "keytrail.grant.id", Text, "grant that was made, used or revoked";
    KeytrailGrantOperations, "keytrail_grant_operations", "keytrail.grant.operations", List, "operations that the grant allows";
    KeytrailGrantPrincipal, "keytrail_grant_principal", "keytrail.grant.principal", Text, "who may use the grant";
    KeytrailGroup, "keytrail_group", "keytrail.group", Int, "index of the producer's key: equal where dataset, scope and key are; the archive fills it in";
    KeytrailHsmFirmware, "keytrail_hsm_firmware", "keytrail.hsm.firmware", Text, "firmware version";
    KeytrailHsmId, "keytrail_hsm_id", "keytrail.hsm.id", Text, "HSM or cluster id";
    KeytrailHsmRebootCounter, "keytrail_hsm_reboot_counter", "keytrail.hsm.reboot_counter", Int, "how often the HSM was started; the sequence begins anew with it";
    KeytrailHsmSerial, "keytrail_hsm_serial", "keytrail.hsm.serial", Text, "token serial number (PKCS#11 CK_TOKEN_INFO)";
    KeytrailHsmSlot, "keytrail_hsm_slot", "keytrail.hsm.slot", Int, "PKCS#11 slot";
    KeytrailInput, "keytrail_input", "keytrail.input", Text, "object and byte offset that the event was read from";
    KeytrailInsightState, "keytrail_insight_state", "keytrail.insight.state", Text, "`Start` or `End` of an insight";
    KeytrailInsightType, "keytrail_insight_type", "keytrail.insight.type", Text, "kind of insight";
    KeytrailKeyAlgorithm, "keytrail_key_algorithm", "keytrail.key.algorithm", Text, "algorithm or key spec as the producer names it";
    KeytrailKeyAlias, "keytrail_key_alias", "keytrail.key.alias", Text, "alias or name of the key";
    KeytrailKeyArn, "keytrail_key_arn", "keytrail.key.arn", Text, "ARN of the key";
    KeytrailKeyDeclaredAlias, "keytrail_key_declared_alias", "keytrail.key.declared_alias", Text, "alias of the key in the key inventory";
    KeytrailKeyDeclaredId, "keytrail_key_declared_id", "keytrail.key.declared_id", Text, "what the key inventory calls the key: its row's `id`, else `arn`, else `alias`";
    KeytrailKeyId, "keytrail_key_id", "keytrail.key.id", Text, "id of the key, without account and region";
    KeytrailKeyOrigin, "keytrail_key_origin", "keytrail.key.origin", Text, "where the material was made";
    KeytrailKeyOwner, "keytrail_key_owner", "keytrail.key.owner", Text, "who owns the key, by the key inventory";
    KeytrailKeyPurpose, "keytrail_key_purpose", "keytrail.key.purpose", Text, "what the key protects, by the key inventory";
    KeytrailKeyState, "keytrail_key_state", "keytrail.key.state", Text, "state after the event, as the producer names it";
    KeytrailKeyStore, "keytrail_key_store", "keytrail.key.store", Text, "custom key store, HSM partition or secrets mount";
    KeytrailKeyTargetId, "keytrail_key_target_id", "keytrail.key.target_id", Text, "second key: destination of a re-encryption or wrap";
    KeytrailKeyTeam, "keytrail_key_team", "keytrail.key.team", Text, "team that runs the key, by the key inventory";
    KeytrailKeyTier, "keytrail_key_tier", "keytrail.key.tier", Text, "tier of the key, by the key inventory";
    KeytrailKeyUsage, "keytrail_key_usage", "keytrail.key.usage", Text, "what the key is for";
    KeytrailKeyVersion, "keytrail_key_version", "keytrail.key.version", Text, "version of the key that was used or made";
    KeytrailLedgerEnvelope, "keytrail_ledger_envelope", "keytrail.ledger.envelope", Binary, "what the chain's record says beside a foreign line, as it was hashed: the leaf is over it, a line feed and event_original";
    KeytrailLedgerEpoch, "keytrail_ledger_epoch", "keytrail.ledger.epoch", Int, "epoch of the source's chain";
    KeytrailLedgerLeafHash, "keytrail_ledger_leaf_hash", "keytrail.ledger.leaf_hash", Text, "RFC 6962 leaf hash of the chain's record, 64 hex digits";
    KeytrailLedgerPrev, "keytrail_ledger_prev", "keytrail.ledger.prev", Text, "leaf hash of the record before, 64 hex digits";
    KeytrailLedgerSeq, "keytrail_ledger_seq", "keytrail.ledger.seq", Int, "sequence number in the epoch";
    KeytrailLedgerSource, "keytrail_ledger_source", "keytrail.ledger.source", Text, "source of the chain";
    KeytrailMechanism, "keytrail_mechanism", "keytrail.mechanism", Text, "PKCS#11 mechanism, `CKM_*`";
    KeytrailNormalizer, "keytrail_normalizer", "keytrail.normalizer", Text, "normalizer and version, e.g. `cloudtrail/1`";
    KeytrailOperationId, "keytrail_operation_id", "keytrail.operation.id", Text, "id that joins the records of one operation";
    KeytrailPhase, "keytrail_phase", "keytrail.phase", Text, "which of an operation's records this is, e.g. `request`";
    KeytrailPolicyDecision, "keytrail_policy_decision", "keytrail.policy.decision", Text, "`allow` or `deny`";
    KeytrailPolicyIds, "keytrail_policy_ids", "keytrail.policy.ids", List, "policies that decided";
    KeytrailReadOnly, "keytrail_read_only", "keytrail.read_only", Bool, "the producer calls the action read-only";
    KeytrailResourceIds, "keytrail_resource_ids", "keytrail.resource.ids", List, "all resources that the record names";
    KeytrailSchema, "keytrail_schema", "keytrail.schema", Int, "version of this column set";
    KeytrailScope, "keytrail_scope", "keytrail.scope", Text, "within what the producer's id is one of a kind; null: not judged for conflicts";
    KeytrailSource, "keytrail_source", "keytrail.source", Text, "declared source, else the detected format";
    KeytrailSourceSite, "keytrail_source_site", "keytrail.source.site", Text, "site of the network that the call came from";
    KeytrailSourceZone, "keytrail_source_zone", "keytrail.source.zone", Text, "zone of the network that the call came from";
    KeytrailTables, "keytrail_tables", "keytrail.tables", List, "tables that enriched the event, `<name>@<16 digits of their SHA-256>`";
    KeytrailUid, "keytrail_uid", "keytrail.uid", Text, "identity, 40 hex digits";
    KeytrailUndeclared, "keytrail_undeclared", "keytrail.undeclared", Bool, "no declared source claims the event";
    KeytrailVaultMountPoint, "keytrail_vault_mount_point", "keytrail.vault.mount_point", Text, "mount of the secrets or auth engine";
    KeytrailVaultMountType, "keytrail_vault_mount_type", "keytrail.vault.mount_type", Text, "type of the engine";
    KeytrailVaultNamespace, "keytrail_vault_namespace", "keytrail.vault.namespace", Text, "namespace path, else its id";
    KeytrailVaultPath, "keytrail_vault_path", "keytrail.vault.path", Text, "request path";
    OrchestratorClusterName, "orchestrator_cluster_name", "orchestrator.cluster.name", Text, "cluster of Kubernetes, where the record names it";
    OrchestratorNamespace, "orchestrator_namespace", "orchestrator.namespace", Text, "namespace of the object that was acted on";
    OrchestratorResourceName, "orchestrator_resource_name", "orchestrator.resource.name", Text, "name of the object that was acted on";
    OrchestratorResourceType, "orchestrator_resource_type", "orchestrator.resource.type", Text, "kind of object and what of it, e.g. `secrets`, `pods/exec`";
    RelatedHosts, "related_hosts", "related.hosts", List, "all hosts of the event";
    RelatedIp, "related_ip", "related.ip", List, "all addresses of the event";
    RelatedUser, "related_user", "related.user", List, "all users of the event";
    ServiceName, "service_name", "service.name", Text, "application that asked";
    SourceAddress, "source_address", "source.address", Text, "where the call came from, address or service name";
    SourceAsNumber, "source_as_number", "source.as.number", Int, "autonomous system that the call came from";
    SourceAsOrganizationName, "source_as_organization_name", "source.as.organization.name", Text, "organization of the autonomous system";
    SourceGeoCityName, "source_geo_city_name", "source.geo.city_name", Text, "city that the call came from";
    SourceGeoCountryIsoCode, "source_geo_country_iso_code", "source.geo.country_iso_code", Text, "country that the call came from, ISO 3166-1 alpha-2";
    SourceIp, "source_ip", "source.ip", Text, "where the call came from, when it is an IP address";
    SourcePort, "source_port", "source.port", Int, "port that the call came from";
    Timestamp, "timestamp", "@timestamp", Time, "the event's own time; null when it has none that can be read";
    TlsCipher, "tls_cipher", "tls.cipher", Text, "cipher suite of the call";
    TlsClientServerName, "tls_client_server_name", "tls.client.server_name", Text, "host name that the client asked for";
    TlsVersion, "tls_version", "tls.version", Text, "TLS version of the call, e.g. `1.3`";
    UserAgentOriginal, "user_agent_original", "user_agent.original", Text, "user agent, secrets masked";
    UserEffectiveName, "user_effective_name", "user.effective.name", Text, "role or identity that the user acted as";
    UserId, "user_id", "user.id", Text, "the producer's id of the caller";
    UserName, "user_name", "user.name", Text, "the caller; for a role session the person or workload behind it";
    UserTargetName, "user_target_name", "user.target.name", Text, "user that was acted on";
}

/// Number of columns.
pub const COUNT: usize = Column::ALL.len();

impl Column {
    /// The column of that Parquet name.
    pub fn by_name(name: &str) -> Option<Self> {
        Self::ALL.binary_search_by(|c| c.name().cmp(name)).ok().map(|i| Self::ALL[i])
    }

    /// Position in [`Column::ALL`].
    pub const fn index(self) -> usize {
        self as usize
    }

    /// Set from the event by its normalizer and bound by `rows_root`; the others are the bytes
    /// themselves, their hash, the uid (both bound apart), provenance, which a replay may change,
    /// the key group, which follows from the original and serves to find rows, never to tell of them, and
    /// [enrichment](Self::enriched).
    pub const fn derived(self) -> bool {
        !self.enriched()
            && !matches!(
                self,
                Self::EventOriginal
                    | Self::EventHash
                    | Self::KeytrailUid
                    | Self::EventIngested
                    | Self::KeytrailGroup
                    | Self::KeytrailInput
            )
    }

    /// Set from tables when the event was archived: what the organization says of it, not what its producer
    /// did. No digest covers it; rewrites carry it over as it is.
    pub const fn enriched(self) -> bool {
        matches!(
            self,
            Self::CloudAccountName
                | Self::KeytrailAccountOwner
                | Self::KeytrailAccountTier
                | Self::KeytrailActorPerson
                | Self::KeytrailActorPrivileged
                | Self::KeytrailActorRole
                | Self::KeytrailActorService
                | Self::KeytrailActorTeam
                | Self::KeytrailKeyDeclaredAlias
                | Self::KeytrailKeyDeclaredId
                | Self::KeytrailKeyOwner
                | Self::KeytrailKeyPurpose
                | Self::KeytrailKeyTeam
                | Self::KeytrailKeyTier
                | Self::KeytrailSourceSite
                | Self::KeytrailSourceZone
                | Self::KeytrailTables
                | Self::SourceAsNumber
                | Self::SourceAsOrganizationName
                | Self::SourceGeoCityName
                | Self::SourceGeoCountryIsoCode
        )
    }
}

/// Some of the columns.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct ColumnSet(u128);

const _: () = assert!(COUNT < 128);

impl ColumnSet {
    /// These columns.
    pub const fn of(columns: &[Column]) -> Self {
        let (mut set, mut i) = (Self(0), 0);
        while i < columns.len() {
            set.insert(columns[i]);
            i += 1;
        }
        set
    }

    /// Those of both.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Those that are in the other, too.
    #[must_use]
    pub const fn within(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Adds a column.
    pub const fn insert(&mut self, column: Column) {
        self.0 |= 1 << column.index();
    }

    /// Whether it has the column.
    pub const fn contains(self, column: Column) -> bool {
        self.0 >> column.index() & 1 == 1
    }

    /// Number of columns.
    pub const fn len(self) -> u32 {
        self.0.count_ones()
    }

    /// Whether it has none.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Those whose names come before that column's.
    #[must_use]
    pub const fn before(self, column: Column) -> Self {
        Self(self.0 & ((1 << column.index()) - 1))
    }

    /// The columns, by ascending name.
    pub fn iter(self) -> impl Iterator<Item = Column> {
        let mut left = self.0;
        std::iter::from_fn(move || {
            let column = Column::ALL.get(left.trailing_zeros() as usize)?;
            left &= left - 1;
            Some(*column)
        })
    }

    /// A bit a column, by [`Column::index`].
    pub const fn to_bytes(self) -> [u8; 16] {
        self.0.to_le_bytes()
    }

    /// What [`to_bytes`](Self::to_bytes) wrote; bits of no column are dropped.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(u128::from_le_bytes(bytes) & ((1 << COUNT) - 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_sorted_and_follow_the_fields() {
        assert!(Column::ALL.windows(2).all(|w| w[0].name() < w[1].name()));
        for c in Column::ALL {
            let expected = c.field().trim_start_matches('@').replace('.', "_");
            assert_eq!(c.name(), expected);
            assert_eq!(Column::by_name(c.name()), Some(c));
        }
        assert_eq!(Column::by_name("nope"), None);
    }

    #[test]
    fn sets_hold_what_was_put_into_them() {
        let some =
            [Column::UserTargetName, Column::CloudAccountId, Column::KeytrailGroup, Column::CloudAccountId];
        let mut set = ColumnSet::default();
        assert!(set.is_empty());
        some.iter().for_each(|c| set.insert(*c));
        assert_eq!(set.iter().collect::<Vec<_>>(), [some[1], some[2], some[0]]);
        assert_eq!(set.len(), 3);
        assert_eq!(set.before(some[0]).iter().collect::<Vec<_>>(), [some[1], some[2]]);
        assert!(Column::ALL.into_iter().all(|c| set.contains(c) == some.contains(&c)));
        assert_eq!(ColumnSet::from_bytes(set.to_bytes()), set);
        assert_eq!(ColumnSet::from_bytes([0xff; 16]).len() as usize, COUNT);
    }
}
