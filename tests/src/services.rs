//! Real services that servers depend on, as pods of a story: Redis and a TLS endpoint.

use std::time::SystemTime;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use serde_json::json;
use xtask::testing::services::REDIS;

use crate::program::Program;

/// What clients of Redis log in with; nobody is to see it.
pub const REDIS_PASSWORD: &str = "pl4nted-r3dis";

/// A Redis that wants the password, with these settings.
pub fn redis(settings: &[&str]) -> Program {
    let root = REDIS.root().unwrap_or_else(|error| panic!("Redis cannot be had: {error}"));
    let program = root.join("usr/bin/redis-server").display().to_string();
    let password = ["--requirepass", REDIS_PASSWORD, "--save", "", "--protected-mode", "no", "--dir", "/tmp"];
    // Libraries that this machine lacks came with it.
    let libraries = root.join(format!("usr/lib/{}-linux-gnu", std::env::consts::ARCH));
    Program::new("redis", &[&[program.as_str()], &password[..], settings].concat(), &[6379])
        .environment("LD_LIBRARY_PATH", &libraries.display().to_string())
        .folder(&root)
}

/// An authority that nobody else knows.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    /// Its certificate, as PEM.
    pub pem: String,
}

impl Authority {
    /// A new one.
    pub fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("no names are no problem");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "Authority of a test");
        let key = KeyPair::generate().expect("a key can be made");
        let pem = params.self_signed(&key).expect("a certificate can be made").pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    /// Something that takes TLS connections under these names, by a certificate that holds until then.
    pub fn endpoint(&self, program: &'static str, names: &[&str], until: SystemTime) -> Program {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let mut params = CertificateParams::new(names.clone()).expect("host names");
        params.distinguished_name.push(DnType::CommonName, names.first().map_or("", String::as_str));
        params.not_after = until.into();
        let key = KeyPair::generate().expect("a key can be made");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate can be made");
        let files = ["-cert", "/files/tls.crt", "-key", "/files/tls.key"];
        let serve = ["/usr/bin/openssl", "s_server", "-accept", "8443", "-www", "-quiet"];
        Program::new(program, &[&serve[..], &files].concat(), &[8443])
            .files(json!({"tls.crt": certificate.pem(), "tls.key": key.serialize_pem()}))
    }
}

impl Default for Authority {
    fn default() -> Self {
        Self::new()
    }
}
