//! A certificate authority of the tests' own.

#![allow(dead_code)] // No test uses all of it.

use ductworks::{Identity, Roots};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, date_time_ymd,
};

pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub(crate) fn new(name: &str) -> Self {
        let mut parameters = CertificateParams::new(Vec::new()).unwrap();
        parameters.distinguished_name.push(DnType::CommonName, name);
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        Self(CertifiedIssuer::self_signed(parameters, key).unwrap())
    }

    /// A new key for this name, and its certificate, as PEM texts.
    pub(crate) fn pem(&self, name: &str, is_expired: bool) -> (String, String) {
        let expiry = is_expired.then(|| date_time_ymd(2020, 1, 1));
        self.pem_for(name, |parameters| {
            parameters.not_after = expiry.unwrap_or(parameters.not_after);
        })
    }

    fn pem_for(&self, name: &str, change: impl FnOnce(&mut CertificateParams)) -> (String, String) {
        let mut parameters = CertificateParams::new([name.to_owned()]).unwrap();
        parameters.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        change(&mut parameters);
        let key = KeyPair::generate().unwrap();
        let certificate = parameters.signed_by(&key, &self.0).unwrap();
        (key.serialize_pem(), certificate.pem())
    }

    pub(crate) fn identity(&self, name: &str) -> Identity {
        let (key, certificate) = self.pem(name, false);
        Identity::from_pem(key, certificate).unwrap()
    }

    pub(crate) fn expired(&self, name: &str) -> Identity {
        let (key, certificate) = self.pem(name, true);
        Identity::from_pem(key, certificate).unwrap()
    }

    /// One that is not valid yet.
    pub(crate) fn early(&self, name: &str) -> Identity {
        let (key, certificate) = self.pem_for(name, |parameters| {
            parameters.not_before = date_time_ymd(4000, 1, 1);
        });
        Identity::from_pem(key, certificate).unwrap()
    }

    /// Its own certificate, as a PEM text.
    pub(crate) fn root(&self) -> String {
        self.0.pem()
    }

    pub(crate) fn roots(&self) -> Roots {
        Roots::from_pem(self.root()).unwrap()
    }
}
