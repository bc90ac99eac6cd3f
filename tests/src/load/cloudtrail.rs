//! CloudTrail-like events: what an account with some hundred keys, roles and users writes.
//!
//! An event is a function of the seed and its number, so a replay is the same bytes again.

use super::random::{Random, mix, uuid};
use super::{Moment, clock_time};

const REGIONS: [&str; 4] = ["us-east-1", "eu-central-1", "eu-west-1", "us-west-2"];
const ACCOUNTS: [&str; 3] = ["111122223333", "444455556666", "777788889999"];
const SERVICES: [&str; 5] = ["s3", "rds", "lambda", "ec2", "secretsmanager"];
const AGENTS: [&str; 6] = [
    "aws-sdk-rust/1.3.8 ua/2.1 api/kms/1.91.0 os/linux lang/rust/1.90.0 m/E,b",
    "aws-sdk-java/2.33.4 md/io#sync md/http#Apache ua/2.1 os/Linux#6.1.0 lang/java#21.0.4 md/OpenJDK_64-Bit_Server_VM md/vendor#Eclipse_Adoptium exec-env/AWS_ECS_FARGATE m/D,N",
    "Boto3/1.40.21 md/Botocore#1.40.21 ua/2.1 os/linux#6.1.132-147.221.amzn2023.x86_64 md/arch#x86_64 lang/python#3.12.3 md/pyimpl#CPython exec-env/AWS_Lambda_python3.12 m/b,Z,D cfg/retry-mode#legacy",
    "APN/1.0 HashiCorp/1.0 Terraform/1.9.8 (+https://www.terraform.io) terraform-provider-aws/5.94.1 aws-sdk-go-v2/1.36.3 ua/2.1 os/linux lang/go#1.23.7 md/GOARCH#amd64",
    "aws-cli/2.28.11 md/awscrt#0.27.6 ua/2.1 os/linux#6.8.0-79-generic md/arch#x86_64 lang/python#3.13.7 md/pyimpl#CPython cfg/retry-mode#standard md/installer#exe md/prompt#off md/command#kms.decrypt",
    "aws-sdk-go-v2/1.38.3 ua/2.1 os/linux lang/go#1.25.0 md/GOOS#linux md/GOARCH#arm64 api/secretsmanager#1.39.2 m/E,e",
];

/// What was called. KMS leads: it is the service that this pipeline is about.
#[derive(Clone, Copy)]
enum Call {
    Kms(&'static str),
    S3(&'static str),
    AssumeRole,
    GetSecretValue,
    ConsoleLogin,
    Describe,
    RotateKey,
}

const CALLS: [(u32, Call); 27] = [
    (330, Call::Kms("Decrypt")),
    (170, Call::Kms("GenerateDataKey")),
    (60, Call::Kms("Encrypt")),
    (40, Call::Kms("DescribeKey")),
    (25, Call::Kms("Sign")),
    (10, Call::Kms("Verify")),
    (8, Call::Kms("GenerateMac")),
    (8, Call::Kms("ReEncrypt")),
    (10, Call::Kms("CreateGrant")),
    (6, Call::Kms("RetireGrant")),
    (10, Call::Kms("GetKeyPolicy")),
    (3, Call::Kms("PutKeyPolicy")),
    (3, Call::Kms("CreateKey")),
    (3, Call::Kms("CreateAlias")),
    (2, Call::Kms("EnableKeyRotation")),
    (2, Call::Kms("DisableKey")),
    (2, Call::Kms("EnableKey")),
    (2, Call::Kms("ScheduleKeyDeletion")),
    (1, Call::Kms("CancelKeyDeletion")),
    (1, Call::RotateKey),
    (70, Call::S3("GetObject")),
    (40, Call::S3("PutObject")),
    (20, Call::S3("GetBucketAcl")),
    (90, Call::AssumeRole),
    (30, Call::GetSecretValue),
    (5, Call::ConsoleLogin),
    (40, Call::Describe),
];

/// Calls that only read, as CloudTrail's `readOnly` says.
const READS: [&str; 12] = [
    "Decrypt",
    "Encrypt",
    "GenerateDataKey",
    "DescribeKey",
    "Sign",
    "Verify",
    "GenerateMac",
    "ReEncrypt",
    "GetKeyPolicy",
    "GetObject",
    "GetBucketAcl",
    "GetSecretValue",
];

/// Appends event `index`, compact, without a line end.
pub fn write(out: &mut String, seed: u64, index: u64, at: Moment) {
    let mut r = Random::of(seed, index);
    let call = *r.weighted(&CALLS);
    let region = REGIONS[r.zipf(4) as usize];
    let account = ACCOUNTS[r.zipf(3) as usize];
    // A bijection of the event's number: no two events share an id.
    let event_id = uuid(mix(seed ^ 0xE7E7 ^ index.rotate_left(32)), r.bits());
    let time = at.seconds();

    if matches!(call, Call::RotateKey) {
        let key = key_id(&mut r);
        out.push_str(&format!(
            r#"{{"eventVersion":"1.11","userIdentity":{{"accountId":"{account}","invokedBy":"AWS Internal"}},"eventTime":"{time}","eventSource":"kms.amazonaws.com","eventName":"RotateKey","awsRegion":"{region}","sourceIPAddress":"AWS Internal","userAgent":"AWS Internal","requestParameters":null,"responseElements":null,"eventID":"{event_id}","readOnly":false,"resources":[{{"accountId":"{account}","type":"AWS::KMS::Key","ARN":"arn:aws:kms:{region}:{account}:key/{key}"}}],"eventType":"AwsServiceEvent","managementEvent":true,"recipientAccountId":"{account}","serviceEventDetails":{{"keyId":"{key}","rotationType":"AUTOMATIC"}},"eventCategory":"Management"}}"#,
        ));
        return;
    }
    let who = identity(&mut r, account, at);
    let details = details(&mut r, call, region, account, at);
    let failed = details.may_fail && r.percent(3);
    let error = if failed {
        format!(
            r#""errorCode":"AccessDenied","errorMessage":"User: {} is not authorized to perform: {}:{} on the resource associated with this ciphertext because no identity-based policy allows the action","#,
            who.arn, details.service, details.name,
        )
    } else {
        String::new()
    };
    let response = if failed { "null" } else { &details.response };
    let extra = &details.extra;
    let resources = if details.resource.is_empty() {
        String::new()
    } else {
        format!(
            r#""resources":[{{"accountId":"{account}","type":"{}","ARN":"{}"}}],"#,
            details.resource_type, details.resource
        )
    };
    let tls = if who.internal {
        String::new()
    } else {
        format!(
            r#","tlsDetails":{{"tlsVersion":"TLSv1.3","cipherSuite":"TLS_AES_128_GCM_SHA256","clientProvidedHostHeader":"{}.{region}.amazonaws.com"}}"#,
            details.service
        )
    };
    let (kind, category) = match call {
        Call::ConsoleLogin => ("AwsConsoleSignIn", "Management"),
        Call::S3("GetObject" | "PutObject") => ("AwsApiCall", "Data"),
        _ => ("AwsApiCall", "Management"),
    };
    out.push_str(&format!(
        r#"{{"eventVersion":"1.11","userIdentity":{identity},"eventTime":"{time}","eventSource":"{service}.amazonaws.com","eventName":"{name}","awsRegion":"{region}","sourceIPAddress":"{ip}","userAgent":"{agent}",{error}"requestParameters":{request},"responseElements":{response},{extra}"requestID":"{request_id}","eventID":"{event_id}","readOnly":{read_only},{resources}"eventType":"{kind}","managementEvent":{management},"recipientAccountId":"{account}","eventCategory":"{category}"{tls}}}"#,
        identity = who.json,
        service = details.service,
        name = details.name,
        ip = who.ip,
        agent = who.agent,
        request = details.request,
        request_id = r.uuid(),
        read_only = READS.contains(&details.name) || matches!(call, Call::Describe | Call::AssumeRole),
        management = category == "Management",
    ));
}

struct Identity {
    json: String,
    arn: String,
    ip: String,
    agent: String,
    internal: bool,
}

/// Roles do most of the work, people some, services the rest; root hardly ever.
fn identity(r: &mut Random, account: &str, at: Moment) -> Identity {
    let ip = {
        let rank = r.zipf(2000);
        format!("10.{}.{}.{}", 20 + rank % 7, (rank / 7) % 256, 1 + rank % 250)
    };
    let agent = r.pick(&AGENTS).to_owned();
    match r.below(100) {
        0..64 => {
            let rank = r.zipf(120);
            let name =
                format!("app-{}-{rank}", ["payments", "orders", "ledger", "tokens"][rank as usize % 4]);
            let role = id_of("AROA", rank, account);
            let session = match rank % 3 {
                0 => format!("i-{:017x}", mix(r.zipf(300)) >> 4 & 0xF_FFFF_FFFF_FFFF),
                1 => format!("ecs-task-{:032x}", u128::from(mix(r.zipf(300)))),
                _ => format!("{}@example.com", user_name(r)),
            };
            let key = id_of("ASIA", r.zipf(4000), account);
            let since = Moment(at.0 - 1_000_000 * (60 + r.below(3500) as i64)).seconds();
            let arn = format!("arn:aws:sts::{account}:assumed-role/{name}/{session}");
            Identity {
                json: format!(
                    r#"{{"type":"AssumedRole","principalId":"{role}:{session}","arn":"{arn}","accountId":"{account}","accessKeyId":"{key}","sessionContext":{{"sessionIssuer":{{"type":"Role","principalId":"{role}","arn":"arn:aws:iam::{account}:role/{name}","accountId":"{account}","userName":"{name}"}},"webIdFederationData":{{}},"attributes":{{"creationDate":"{since}","mfaAuthenticated":"false"}}}}}}"#,
                ),
                arn,
                ip,
                agent,
                internal: false,
            }
        }
        64..82 => {
            let name = user_name(r);
            let arn = format!("arn:aws:iam::{account}:user/{name}");
            let rank = u64::from(name.as_bytes()[0]) * 256 + name.len() as u64;
            Identity {
                json: format!(
                    r#"{{"type":"IAMUser","principalId":"{}","arn":"{arn}","accountId":"{account}","accessKeyId":"{}","userName":"{name}"}}"#,
                    id_of("AIDA", rank, account),
                    id_of("AKIA", rank, account),
                ),
                arn,
                ip,
                agent,
                internal: false,
            }
        }
        82..95 => {
            let service = format!("{}.amazonaws.com", r.pick(&SERVICES));
            Identity {
                json: format!(r#"{{"type":"AWSService","invokedBy":"{service}"}}"#),
                arn: service.clone(),
                ip: service.clone(),
                agent: service,
                internal: true,
            }
        }
        95..99 => {
            let other = "999900001111";
            Identity {
                json: format!(
                    r#"{{"type":"AWSAccount","principalId":"{}:partner","accountId":"{other}"}}"#,
                    id_of("AROA", r.zipf(8), other),
                ),
                arn: format!("arn:aws:iam::{other}:root"),
                ip: format!("198.51.100.{}", 1 + r.below(250)),
                agent,
                internal: false,
            }
        }
        _ => Identity {
            json: format!(
                r#"{{"type":"Root","principalId":"{account}","arn":"arn:aws:iam::{account}:root","accountId":"{account}","sessionContext":{{"attributes":{{"creationDate":"{}","mfaAuthenticated":"true"}}}}}}"#,
                at.seconds(),
            ),
            arn: format!("arn:aws:iam::{account}:root"),
            ip: format!("203.0.113.{}", 1 + r.below(250)),
            agent,
            internal: false,
        },
    }
}

struct Details {
    service: &'static str,
    name: &'static str,
    request: String,
    response: String,
    /// Further members, each with a comma behind it.
    extra: String,
    resource: String,
    resource_type: &'static str,
    may_fail: bool,
}

fn details(r: &mut Random, call: Call, region: &str, account: &str, at: Moment) -> Details {
    let mut d = Details {
        service: "kms",
        name: "",
        request: "null".to_owned(),
        response: "null".to_owned(),
        extra: String::new(),
        resource: String::new(),
        resource_type: "AWS::KMS::Key",
        may_fail: true,
    };
    match call {
        Call::Kms(name) => {
            d.name = name;
            kms(r, &mut d, region, account, at);
        }
        Call::S3(name) => {
            d.service = "s3";
            d.name = name;
            let bucket = format!("data-{}-{account}", r.zipf(60));
            let host = format!("{bucket}.s3.{region}.amazonaws.com");
            d.resource_type = "AWS::S3::Bucket";
            d.resource = format!("arn:aws:s3:::{bucket}");
            d.request = if name == "GetBucketAcl" {
                format!(r#"{{"bucketName":"{bucket}","Host":"{host}","acl":""}}"#)
            } else {
                let day = at.day();
                format!(
                    r#"{{"bucketName":"{bucket}","Host":"{host}","key":"exports/{day}/part-{:05}.parquet"}}"#,
                    r.below(100_000),
                )
            };
            d.extra = format!(
                r#""additionalEventData":{{"SignatureVersion":"SigV4","CipherSuite":"TLS_AES_128_GCM_SHA256","bytesTransferredIn":0,"AuthenticationMethod":"AuthHeader","x-amz-id-2":"{}=","bytesTransferredOut":{}}},"#,
                r.base64(75),
                r.below(4_000_000),
            );
        }
        Call::AssumeRole => {
            d.service = "sts";
            d.name = "AssumeRole";
            let rank = r.zipf(120);
            let role = format!("app-role-{rank}");
            let session = format!("session-{}", r.hex(12));
            d.resource_type = "AWS::IAM::Role";
            d.resource = format!("arn:aws:iam::{account}:role/{role}");
            d.request = format!(
                r#"{{"roleArn":"{}","roleSessionName":"{session}","durationSeconds":3600}}"#,
                d.resource
            );
            d.response = format!(
                r#"{{"credentials":{{"accessKeyId":"{}","sessionToken":"IQoJb3JpZ2luX2VjE{}","expiration":"{}"}},"assumedRoleUser":{{"assumedRoleId":"{}:{session}","arn":"arn:aws:sts::{account}:assumed-role/{role}/{session}"}}}}"#,
                id_of("ASIA", r.bits(), account),
                r.base64(880),
                clock_time(at.0 + 3_600_000_000),
                id_of("AROA", rank, account),
            );
        }
        Call::GetSecretValue => {
            d.service = "secretsmanager";
            d.name = "GetSecretValue";
            d.request = format!(
                r#"{{"secretId":"arn:aws:secretsmanager:{region}:{account}:secret:prod/db-{}"}}"#,
                r.zipf(80)
            );
        }
        Call::ConsoleLogin => {
            d.service = "signin";
            d.name = "ConsoleLogin";
            d.may_fail = false;
            let ok = r.percent(93);
            d.response = format!(r#"{{"ConsoleLogin":"{}"}}"#, if ok { "Success" } else { "Failure" });
            d.extra = format!(
                r#""additionalEventData":{{"LoginTo":"https://console.aws.amazon.com/console/home?region={region}","MobileVersion":"No","MFAUsed":"{}"}},"#,
                if r.percent(80) { "Yes" } else { "No" },
            );
        }
        Call::Describe => {
            d.service = "ec2";
            d.name = r.pick(&[
                "DescribeInstances",
                "DescribeVpcs",
                "DescribeSecurityGroups",
                "DescribeRouteTables",
            ]);
            d.request = format!(r#"{{"maxResults":{},"filterSet":{{}}}}"#, 5 + r.below(995));
        }
        Call::RotateKey => d.name = "RotateKey",
    }
    d
}

fn kms(r: &mut Random, d: &mut Details, region: &str, account: &str, at: Moment) {
    let key = key_id(r);
    let arn = format!("arn:aws:kms:{region}:{account}:key/{key}");
    let context = match r.below(4) {
        0 => format!(r#"{{"aws:s3:arn":"arn:aws:s3:::data-{}-{account}"}}"#, r.zipf(60)),
        1 => format!(
            r#"{{"Department":"Finance","Tenant":"tenant-{:04}","Purpose":"card-vault"}}"#,
            r.zipf(900)
        ),
        2 => format!(
            r#"{{"SecretARN":"arn:aws:secretsmanager:{region}:{account}:secret:prod/db-{}","SecretVersionId":"{}"}}"#,
            r.zipf(80),
            r.uuid()
        ),
        _ => format!(r#"{{"aws:rds:db-id":"db-{}"}}"#, r.base32(26)),
    };
    let named = if r.percent(25) {
        format!("arn:aws:kms:{region}:{account}:alias/app-{}", r.zipf(120))
    } else {
        arn.clone()
    };
    d.request = match d.name {
        "Decrypt" | "Encrypt" => format!(
            r#"{{"encryptionContext":{context},"keyId":"{named}","encryptionAlgorithm":"SYMMETRIC_DEFAULT"}}"#
        ),
        "GenerateDataKey" => format!(r#"{{"encryptionContext":{context},"keyId":"{named}","keySpec":"AES_256"}}"#),
        "Sign" | "Verify" => {
            format!(r#"{{"messageType":"DIGEST","keyId":"{arn}","signingAlgorithm":"ECDSA_SHA_256"}}"#)
        }
        "GenerateMac" => format!(r#"{{"keyId":"{arn}","macAlgorithm":"HMAC_SHA_256"}}"#),
        "ReEncrypt" => format!(
            r#"{{"sourceEncryptionContext":{context},"destinationEncryptionContext":{context},"destinationKeyId":"{named}","sourceKeyId":"{arn}","sourceEncryptionAlgorithm":"SYMMETRIC_DEFAULT","destinationEncryptionAlgorithm":"SYMMETRIC_DEFAULT"}}"#
        ),
        "CreateGrant" => format!(
            r#"{{"keyId":"{arn}","granteePrincipal":"arn:aws:iam::{account}:role/app-role-{}","operations":["Decrypt","GenerateDataKey"]}}"#,
            r.zipf(120)
        ),
        "RetireGrant" => "null".to_owned(),
        "PutKeyPolicy" => format!(
            r#"{{"keyId":"{key}","policyName":"default","bypassPolicyLockoutSafetyCheck":false,"policy":"{{\n  \"Version\" : \"2012-10-17\",\n  \"Statement\" : [ {{\n    \"Effect\" : \"Allow\",\n    \"Principal\" : {{\n      \"AWS\" : \"arn:aws:iam::{account}:root\"\n    }},\n    \"Action\" : \"kms:*\",\n    \"Resource\" : \"*\"\n  }} ]\n}}"}}"#
        ),
        "CreateKey" => {
            r#"{"keySpec":"SYMMETRIC_DEFAULT","keyUsage":"ENCRYPT_DECRYPT","origin":"AWS_KMS","multiRegion":false,"description":"card vault"}"#
                .to_owned()
        }
        "CreateAlias" => format!(r#"{{"aliasName":"alias/app-{}","targetKeyId":"{arn}"}}"#, r.zipf(120)),
        "ScheduleKeyDeletion" => format!(r#"{{"pendingWindowInDays":{},"keyId":"{key}"}}"#, 7 + r.below(24)),
        _ => format!(r#"{{"keyId":"{key}"}}"#),
    };
    d.response = match d.name {
        "CreateGrant" => format!(r#"{{"grantId":"{}","keyId":"{arn}"}}"#, r.hex(64)),
        "ScheduleKeyDeletion" => {
            format!(
                r#"{{"keyId":"{arn}","keyState":"PendingDeletion","deletionDate":"{}"}}"#,
                clock_time(at.0 + 20 * 86_400_000_000)
            )
        }
        "CancelKeyDeletion" => format!(r#"{{"keyId":"{arn}"}}"#),
        "CreateKey" => format!(
            r#"{{"keyMetadata":{{"aWSAccountId":"{account}","keyId":"{key}","arn":"{arn}","creationDate":"{}","enabled":true,"description":"card vault","keyUsage":"ENCRYPT_DECRYPT","keyState":"Enabled","origin":"AWS_KMS","keyManager":"CUSTOMER","keySpec":"SYMMETRIC_DEFAULT","multiRegion":false}}}}"#,
            clock_time(at.0)
        ),
        _ => "null".to_owned(),
    };
    d.resource = arn;
}

/// One of some hundred keys.
fn key_id(r: &mut Random) -> String {
    let rank = r.zipf(400);
    uuid(mix(rank ^ 0x4B45_5953), mix(rank))
}

fn user_name(r: &mut Random) -> String {
    const NAMES: [&str; 8] = ["alice", "bob", "carol", "dave", "erin", "frank", "grace", "heidi"];
    let rank = r.zipf(90);
    format!("{}.{}", NAMES[rank as usize % 8], rank / 8)
}

/// An id in AWS's form: prefix and 16 or 17 characters, the same for the same number.
fn id_of(prefix: &str, number: u64, account: &str) -> String {
    let salt = account.bytes().fold(0, |n: u64, b| n.wrapping_mul(31).wrapping_add(u64::from(b)));
    format!("{prefix}{}", Random::of(salt, number).base32(16))
}
