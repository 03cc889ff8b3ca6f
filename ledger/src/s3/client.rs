//! The real object store: the AWS SDK, on rustls with ring.
//!
//! Credentials, region and endpoint come from where every AWS tool looks: environment, profile files, web identity, the container's or
//! machine's role. With an endpoint of one's own (`AWS_ENDPOINT_URL`, `AWS_ENDPOINT_URL_S3`, a profile's `endpoint_url`) the bucket
//! stands in the path, not in the host name.
//!
//! Every PUT carries a checksum: the server refuses bytes that changed on the way, and AWS refuses a PUT to a bucket with Object Lock that
//! has none, which other servers do not. What is locked has `x-amz-checksum-sha256`, which the server keeps with it and tells everybody who
//! asks; what is not lives for minutes, and has `x-amz-checksum-crc32c`, which costs neither side anything. Over TLS nothing else is
//! hashed: the request is signed, its body is not. Without TLS the body's SHA-256 is signed too, since anybody may change it on the way.

use std::sync::Arc;
use std::time::Duration;

use aws_sdk_s3::Client as S3;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::config::{BehaviorVersion, ProvideCredentials as _, Region};
use aws_sdk_s3::error::{DisplayErrorContext, SdkError};
use aws_sdk_s3::operation::RequestId as _;
use aws_sdk_s3::operation::put_object::builders::PutObjectFluentBuilder;
use aws_sdk_s3::primitives::{ByteStream, DateTime};
use aws_sdk_s3::types::{
    BucketVersioningStatus, ChecksumAlgorithm, Delete, ObjectIdentifier, ObjectLockEnabled, ObjectLockMode,
    ObjectLockRetention, ObjectLockRetentionMode,
};
use aws_smithy_http_client::tls::{Provider, rustls_provider::CryptoMode};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cairn_schemas::digest::Digest;
use cairn_schemas::time::Clock;

use super::objects::{Condition, Object, ObjectError, ObjectStore, Removal, Stored};
use super::place::Place;

/// How long one attempt of a call may take.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(20);
/// How long making a connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(4);
/// Attempts that the SDK makes of one call, with its own backoff, before the answer counts as lost.
const SDK_ATTEMPTS: u32 = 4;
/// Longest pause between two calls whose outcome is not known.
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// Most objects in one request to remove some.
const REMOVALS_MAX: usize = 1_000;

/// Why a bucket cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// Nothing in the environment, the profile files or the machine says who asks.
    #[error("no AWS credentials were found: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE: {reason}")]
    Credentials {
        /// The SDK's word.
        reason: String,
    },
    /// The bucket is not there, or may not be used.
    #[error("cannot use the bucket {bucket}: {reason}")]
    Bucket {
        /// Its name.
        bucket: String,
        /// What the server said.
        reason: String,
    },
    /// Objects are to be locked, and the bucket cannot.
    #[error(
        "`retention` asks for Object Lock, and the bucket {bucket} has it not: it must be made with it (`aws s3api \
         create-bucket --object-lock-enabled-for-bucket`)"
    )]
    NoObjectLock {
        /// Its name.
        bucket: String,
    },
}

/// One version of an object, or a delete marker.
#[derive(Debug, Clone)]
pub(crate) struct Version {
    pub(crate) key: String,
    pub(crate) version: String,
    pub(crate) etag: Option<String>,
    pub(crate) size: Option<u64>,
    pub(crate) last_modified: Option<String>,
    pub(crate) is_latest: bool,
    pub(crate) delete_marker: bool,
}

/// How a version is locked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Retention {
    pub(crate) mode: String,
    pub(crate) until: String,
}

/// The objects under a prefix. Clones share the connections.
#[derive(Clone)]
pub(crate) struct Client {
    s3: S3,
    bucket: Arc<str>,
    /// With `/` at its end, or empty.
    prefix: Arc<str>,
    versioned: bool,
    /// Nothing guards a request on its way but its signature.
    without_tls: bool,
    retention: Option<Duration>,
    clock: Arc<dyn Clock>,
}

impl Client {
    /// Looks whether the bucket can be used as `place` says.
    pub(crate) async fn connect(place: &Place, clock: Arc<dyn Clock>) -> Result<Client, ConnectError> {
        let bucket = place.bucket.clone();
        let http = aws_smithy_http_client::Builder::new()
            .tls_provider(Provider::Rustls(CryptoMode::Ring))
            .pool_idle_timeout(Duration::from_secs(60))
            .build_https();
        let timeouts =
            TimeoutConfig::builder().connect_timeout(CONNECT_TIMEOUT).operation_attempt_timeout(ATTEMPT_TIMEOUT);
        let mut loader = aws_config::defaults(BehaviorVersion::v2026_01_12())
            .http_client(http)
            .retry_config(RetryConfig::standard().with_max_attempts(SDK_ATTEMPTS))
            .timeout_config(timeouts.build());
        if let Some(region) = &place.region {
            loader = loader.region(Region::new(region.clone()));
        }
        if let Some(endpoint) = &place.endpoint {
            loader = loader.endpoint_url(endpoint);
        }
        let shared = loader.load().await;
        match shared.credentials_provider() {
            None => return Err(ConnectError::Credentials { reason: "there is no provider".to_owned() }),
            Some(provider) => provider
                .provide_credentials()
                .await
                .map_err(|error| ConnectError::Credentials { reason: DisplayErrorContext(&error).to_string() })?,
        };
        let of_s3 = std::env::var("AWS_ENDPOINT_URL_S3").ok();
        let endpoints = [shared.endpoint_url(), of_s3.as_deref()];
        let without_tls = endpoints.into_iter().flatten().any(|url| url.starts_with("http://"));
        let own_endpoint = shared.endpoint_url().is_some() || of_s3.is_some();
        let mut config = aws_sdk_s3::config::Builder::from(&shared).force_path_style(own_endpoint);
        if shared.region().is_none() {
            config = config.region(Region::new("us-east-1"));
        }
        let s3 = S3::from_conf(config.build());

        let versioned = match s3.get_bucket_versioning().bucket(&bucket).send().await {
            Ok(answer) => answer.status() == Some(&BucketVersioningStatus::Enabled),
            Err(error) => {
                let reason = DisplayErrorContext(&error).to_string();
                return Err(ConnectError::Bucket { bucket, reason });
            }
        };
        if place.retention.is_some() {
            let lock = s3.get_object_lock_configuration().bucket(&bucket).send().await;
            let enabled = lock.ok().and_then(|answer| answer.object_lock_configuration?.object_lock_enabled);
            if enabled != Some(ObjectLockEnabled::Enabled) {
                return Err(ConnectError::NoObjectLock { bucket });
            }
        }
        let prefix = if place.prefix.is_empty() { String::new() } else { format!("{}/", place.prefix) };
        let retention = place.retention;
        Ok(Client { s3, bucket: bucket.into(), prefix: prefix.into(), versioned, without_tls, retention, clock })
    }

    /// The objects below a folder of this prefix.
    pub(crate) fn below(&self, folder: &str) -> Client {
        Client { prefix: format!("{}{folder}/", self.prefix).into(), ..self.clone() }
    }

    /// Whether the bucket keeps every version.
    pub(crate) fn is_versioned(&self) -> bool {
        self.versioned
    }

    /// Whether what never changes is locked.
    pub(crate) fn locks(&self) -> bool {
        self.retention.is_some()
    }

    fn key(&self, key: &str) -> String {
        format!("{}{key}", self.prefix)
    }

    /// The names in a folder: of objects, and of folders.
    pub(crate) async fn names(&self, folder: &str) -> Result<Vec<String>, ObjectError> {
        Ok(self.entries(folder).await?.into_iter().map(|(name, _)| name).collect())
    }

    /// The same, and whether each is a folder.
    pub(crate) async fn entries(&self, folder: &str) -> Result<Vec<(String, bool)>, ObjectError> {
        let prefix = if folder.is_empty() { self.prefix.to_string() } else { format!("{}{folder}/", self.prefix) };
        let mut names = Vec::new();
        let mut next = None;
        loop {
            let request = self.s3.list_objects_v2().bucket(&*self.bucket).prefix(&prefix).delimiter("/");
            let page = request.set_continuation_token(next).send().await.map_err(refusal)?;
            let objects = page.contents().iter().filter_map(|object| object.key()?.strip_prefix(&prefix));
            let folders = page.common_prefixes().iter().filter_map(|folder| folder.prefix()?.strip_prefix(&prefix));
            names.extend(objects.map(|name| (name.to_owned(), false)));
            names.extend(folders.map(|name| (name.trim_end_matches('/').to_owned(), true)));
            next = page.next_continuation_token;
            if next.is_none() {
                names.retain(|(name, _)| !name.is_empty());
                return Ok(names);
            }
        }
    }

    /// Every object and its length.
    pub(crate) async fn lengths(&self) -> Result<Vec<(String, u64)>, ObjectError> {
        let mut objects = Vec::new();
        let mut next = None;
        loop {
            let request = self.s3.list_objects_v2().bucket(&*self.bucket).prefix(&*self.prefix);
            let page = request.set_continuation_token(next).send().await.map_err(refusal)?;
            objects.extend(page.contents().iter().filter_map(|object| {
                let key = object.key()?.strip_prefix(&*self.prefix)?;
                Some((key.to_owned(), u64::try_from(object.size().unwrap_or(0)).unwrap_or(0)))
            }));
            next = page.next_continuation_token;
            if next.is_none() {
                return Ok(objects);
            }
        }
    }

    /// Writes an object whatever is there: for what the protocol does not rest on. Its tag.
    pub(crate) async fn overwrite(&self, key: &str, bytes: &[u8]) -> Result<String, ObjectError> {
        let request = self.s3.put_object().bucket(&*self.bucket).key(self.key(key)).checksum_crc32_c(crc32c(bytes));
        self.send(request, bytes).await.map(|stored| stored.etag)
    }

    async fn send(&self, request: PutObjectFluentBuilder, bytes: &[u8]) -> Result<Stored, ObjectError> {
        let request = request.body(ByteStream::from(bytes.to_vec()));
        let stored = if self.without_tls {
            request.send().await
        } else {
            request.customize().disable_payload_signing().send().await
        };
        let stored = stored.map_err(refusal)?;
        let version = stored.version_id.filter(|version| version != "null");
        Ok(Stored { etag: stored.e_tag.unwrap_or_default(), version })
    }

    /// Every version of every object whose key begins so, and every delete marker, as the server lists them.
    pub(crate) async fn versions(&self, prefix: &str) -> Result<Vec<Version>, ObjectError> {
        let mut all = Vec::new();
        let (mut key, mut version) = (None, None);
        loop {
            let request = self.s3.list_object_versions().bucket(&*self.bucket).prefix(self.key(prefix));
            let page = request.set_key_marker(key).set_version_id_marker(version).send().await.map_err(refusal)?;
            for found in page.versions() {
                let Some(key) = found.key().and_then(|key| key.strip_prefix(&*self.prefix)) else { continue };
                all.push(Version {
                    key: key.to_owned(),
                    version: found.version_id().unwrap_or("null").to_owned(),
                    etag: found.e_tag().map(str::to_owned),
                    size: found.size().and_then(|size| u64::try_from(size).ok()),
                    last_modified: found.last_modified().map(ToString::to_string),
                    is_latest: found.is_latest().unwrap_or(false),
                    delete_marker: false,
                });
            }
            for found in page.delete_markers() {
                let Some(key) = found.key().and_then(|key| key.strip_prefix(&*self.prefix)) else { continue };
                all.push(Version {
                    key: key.to_owned(),
                    version: found.version_id().unwrap_or("null").to_owned(),
                    etag: None,
                    size: None,
                    last_modified: found.last_modified().map(ToString::to_string),
                    is_latest: found.is_latest().unwrap_or(false),
                    delete_marker: true,
                });
            }
            (key, version) = (page.next_key_marker, page.next_version_id_marker);
            if page.is_truncated != Some(true) || key.is_none() {
                return Ok(all);
            }
        }
    }

    /// Locks a version that is there, as one that is written under a lock.
    pub(crate) async fn lock(&self, key: &str, version: Option<&str>) -> Result<(), ObjectError> {
        let Some(retention) = self.retention else { return Ok(()) };
        let until = ObjectLockRetention::builder().mode(ObjectLockRetentionMode::Compliance);
        let until = until.retain_until_date(self.locked_until(retention)).build();
        let request = self.s3.put_object_retention().bucket(&*self.bucket).key(self.key(key)).retention(until);
        // AWS wants a digest of the body of this request; the SDK computes it.
        let request = request.checksum_algorithm(ChecksumAlgorithm::Sha256);
        request.set_version_id(version.map(str::to_owned)).send().await.map(drop).map_err(refusal)
    }

    /// Until when something is locked that is written now.
    fn locked_until(&self, retention: Duration) -> DateTime {
        let until = self.clock.now().plus(retention).nanos() / 1_000_000_000;
        DateTime::from_secs(i64::try_from(until).unwrap_or(i64::MAX))
    }

    /// How a version is locked, if it is.
    pub(crate) async fn retention(&self, key: &str, version: &str) -> Result<Option<Retention>, ObjectError> {
        let request = self.s3.head_object().bucket(&*self.bucket).key(self.key(key));
        let request = if version == "null" { request } else { request.version_id(version) };
        let head = request.send().await.map_err(refusal)?;
        Ok(match (head.object_lock_mode, head.object_lock_retain_until_date) {
            (Some(mode), Some(until)) => Some(Retention { mode: mode.as_str().to_owned(), until: until.to_string() }),
            _ => None,
        })
    }

    /// The versions to remove for `object`.
    async fn identifiers(&self, object: &Removal) -> Result<Vec<ObjectIdentifier>, ObjectError> {
        let named = |version: Option<String>| {
            let identifier = ObjectIdentifier::builder().key(self.key(&object.key)).set_version_id(version).build();
            identifier.expect("invariant: it has a key")
        };
        if object.version.is_some() || !self.versioned {
            return Ok(vec![named(object.version.clone())]);
        }
        let versions = self.versions(&object.key).await?;
        let ours = versions.into_iter().filter(|version| version.key == object.key);
        Ok(ours.map(|version| named(Some(version.version))).collect())
    }
}

fn sha256(bytes: &[u8]) -> String {
    STANDARD.encode(Digest::sha256(bytes).as_bytes())
}

fn crc32c(bytes: &[u8]) -> String {
    STANDARD.encode(crc32c::crc32c(bytes).to_be_bytes())
}

/// What an error of the SDK says about what was done.
fn refusal<E>(error: SdkError<E>) -> ObjectError
where
    E: std::error::Error + aws_sdk_s3::error::ProvideErrorMetadata + 'static,
{
    use aws_sdk_s3::error::ProvideErrorMetadata as _;
    let status = error.raw_response().map(|response| response.status().as_u16());
    let code = error.code().unwrap_or_default().to_owned();
    let text = DisplayErrorContext(&error).to_string();
    match (&error, status, code.as_str()) {
        (SdkError::ServiceError(_), Some(412), _) => ObjectError::Precondition,
        (SdkError::ServiceError(_), Some(409), _) => ObjectError::Conflict,
        // Told to come back, or that the request was not read to its end.
        (_, Some(408 | 429), _) | (_, _, "RequestTimeout" | "SlowDown" | "RequestTimeTooSkewed" | "ExpiredToken") => {
            ObjectError::Unknown(text)
        }
        (SdkError::ServiceError(_), Some(400..500), _) => ObjectError::Refused(text),
        (SdkError::ConstructionFailure(_), ..) => ObjectError::Refused(text),
        _ => ObjectError::Unknown(text),
    }
}

impl ObjectStore for Client {
    async fn get(&self, key: &str) -> Result<Option<Object>, ObjectError> {
        let answer = self.s3.get_object().bucket(&*self.bucket).key(self.key(key)).send().await;
        let object = match answer {
            Ok(object) => object,
            // A delete marker is a 404 as well. A bucket that is not there is an error.
            Err(error) if error.as_service_error().is_some_and(|error| error.is_no_such_key()) => return Ok(None),
            Err(error) => return Err(refusal(error)),
        };
        let (etag, version) = (object.e_tag.unwrap_or_default(), object.version_id);
        let bytes = object.body.collect().await.map_err(|error| ObjectError::Unknown(error.to_string()))?;
        Ok(Some(Object { bytes: bytes.to_vec(), etag, version: version.filter(|version| version != "null") }))
    }

    async fn put(&self, key: &str, bytes: &[u8], condition: &Condition, lock: bool) -> Result<Stored, ObjectError> {
        let request = self.s3.put_object().bucket(&*self.bucket).key(self.key(key));
        let mut request = match condition {
            Condition::Absent => request.if_none_match("*"),
            Condition::Is(etag) => request.if_match(etag),
        };
        request = if lock { request.checksum_sha256(sha256(bytes)) } else { request.checksum_crc32_c(crc32c(bytes)) };
        if let Some(retention) = self.retention.filter(|_| lock) {
            let until = self.locked_until(retention);
            request = request.object_lock_mode(ObjectLockMode::Compliance).object_lock_retain_until_date(until);
        }
        self.send(request, bytes).await
    }

    async fn list(&self, prefix: &str) -> Result<Vec<String>, ObjectError> {
        let mut keys = Vec::new();
        let mut next = None;
        loop {
            let request = self.s3.list_objects_v2().bucket(&*self.bucket).prefix(self.key(prefix));
            let page = request.set_continuation_token(next).send().await.map_err(refusal)?;
            let found = page.contents().iter().filter_map(|object| object.key()?.strip_prefix(&*self.prefix));
            keys.extend(found.map(str::to_owned));
            next = page.next_continuation_token;
            if next.is_none() {
                keys.sort_unstable();
                return Ok(keys);
            }
        }
    }

    async fn delete(&self, objects: &[Removal]) -> Result<(), ObjectError> {
        let mut identifiers = Vec::with_capacity(objects.len());
        for object in objects {
            identifiers.extend(self.identifiers(object).await?);
        }
        for part in identifiers.chunks(REMOVALS_MAX) {
            let delete = Delete::builder().set_objects(Some(part.to_vec())).quiet(true).build();
            let delete = delete.expect("invariant: it has objects");
            let answer = self.s3.delete_objects().bucket(&*self.bucket).delete(delete).send().await.map_err(refusal)?;
            let refused = answer.errors().iter().find(|error| error.code() != Some("NoSuchKey"));
            if let Some(error) = refused {
                let (key, why) = (error.key().unwrap_or_default(), error.message().unwrap_or_default());
                let id = answer.request_id().unwrap_or_default();
                return Err(ObjectError::Refused(format!("{key}: {why} (request {id})")));
            }
        }
        Ok(())
    }

    async fn pause(&self, attempt: u32) {
        let pause = Duration::from_millis(100).saturating_mul(1 << attempt.min(6)).min(PAUSE_MAX);
        tokio::time::sleep(pause).await;
    }
}
