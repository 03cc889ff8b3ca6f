//! A vault's keys: XChaCha20-Poly1305, and the file that holds one.

use cairn_schemas::time::Timestamp;
use chacha20poly1305::aead::{Aead as _, Payload};
use chacha20poly1305::{KeyInit as _, XChaCha20Poly1305, XNonce};
use zeroize::Zeroizing;

/// Bytes of a nonce. Long enough to draw at random for every use of a key.
pub const NONCE_LEN: usize = 24;
/// How a key's file begins.
const MAGIC: &[u8; 8] = b"CAIRNKEY";
const VERSION: u32 = 1;
/// Length of a key's file: magic, version, expiry, subject's index, key.
pub(crate) const KEY_FILE_LEN: usize = 8 + 4 + 8 + 32 + 32;

/// A key of one subject, or of one blob. `Debug` shows nothing of it, and memory keeps no copy when it is dropped.
#[derive(Clone)]
pub struct VaultKey(Zeroizing<[u8; 32]>);

impl std::fmt::Debug for VaultKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("VaultKey(secret)")
    }
}

impl VaultKey {
    /// The key of these bytes.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 32]) -> VaultKey {
        VaultKey(Zeroizing::new(bytes))
    }

    /// Encrypts; the tag stands behind the ciphertext. `nonce` must be random and used once.
    pub(crate) fn seal(&self, nonce: &[u8; NONCE_LEN], associated: &[u8], plain: &[u8]) -> Vec<u8> {
        let payload = Payload { msg: plain, aad: associated };
        self.cipher()
            .encrypt(&XNonce::from(*nonce), payload)
            .expect("invariant: the cipher takes 256 GiB, and nothing here is as long")
    }

    /// Decrypts. `None`: the key, the nonce, the associated data or the ciphertext is another one.
    pub(crate) fn open(&self, nonce: &[u8; NONCE_LEN], associated: &[u8], sealed: &[u8]) -> Option<Vec<u8>> {
        self.cipher().decrypt(&XNonce::from(*nonce), Payload { msg: sealed, aad: associated }).ok()
    }

    fn cipher(&self) -> XChaCha20Poly1305 {
        XChaCha20Poly1305::new((&*self.0).into())
    }
}

/// What a key's file holds.
#[derive(Debug, Clone)]
pub(crate) struct KeyFile {
    /// The key.
    pub(crate) key: VaultKey,
    /// When it must be destroyed at the latest; `None`: when somebody asks for it.
    pub(crate) expires: Option<Timestamp>,
    /// The subject's name in the vault's index; zeros: it is the key of one blob, of nobody.
    pub(crate) subject: [u8; 32],
}

impl KeyFile {
    pub(crate) fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        let mut bytes = Zeroizing::new(Vec::with_capacity(KEY_FILE_LEN));
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&VERSION.to_be_bytes());
        bytes.extend_from_slice(&self.expires.map_or(0, Timestamp::nanos).to_be_bytes());
        bytes.extend_from_slice(&self.subject);
        bytes.extend_from_slice(&*self.key.0);
        bytes
    }

    /// Reads a key's file. `None`: it was overwritten, and only its name came back after a crash.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Option<KeyFile>, &'static str> {
        if !bytes.is_empty() && bytes.iter().all(|byte| *byte == 0) {
            return Ok(None);
        }
        if bytes.len() != KEY_FILE_LEN {
            return Err("it has another length than a key's file");
        }
        let rest = bytes.strip_prefix(MAGIC).ok_or("it does not begin with CAIRNKEY")?;
        let rest = rest.strip_prefix(&VERSION.to_be_bytes()).ok_or("its version is not 1")?;
        let (expires, rest) = rest.split_first_chunk::<8>().ok_or("it is cut")?;
        let (subject, key) = rest.split_first_chunk::<32>().ok_or("it is cut")?;
        let key = key.try_into().map_err(|_| "it is cut")?;
        let expires = match u64::from_be_bytes(*expires) {
            0 => None,
            nanos => Some(Timestamp::from_nanos(nanos)),
        };
        Ok(Some(KeyFile { key: VaultKey::from_bytes(key), expires, subject: *subject }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_file_is_read_again() {
        for expires in [None, Some(Timestamp::from_nanos(1_800_000_000_000_000_000))] {
            let file = KeyFile { key: VaultKey::from_bytes([1; 32]), expires, subject: [2; 32] };
            let bytes = file.to_bytes();
            let read = KeyFile::parse(&bytes).unwrap().unwrap();
            assert_eq!((read.expires, read.subject, *read.key.0), (expires, [2; 32], [1; 32]));
            assert!(KeyFile::parse(&bytes[1..]).is_err());
            assert!(KeyFile::parse(&[&bytes[..], b"x"].concat()).is_err());
        }
        assert!(KeyFile::parse(&[0; KEY_FILE_LEN]).unwrap().is_none());
        assert!(KeyFile::parse(b"").is_err());
    }

    /// draft-irtf-cfrg-xchacha-03, appendix A.3.1.
    #[test]
    fn the_cipher_is_the_drafts() {
        let key: Vec<u8> = (0x80..0xa0).collect();
        let nonce: Vec<u8> = (0x40..0x58).collect();
        let aad = hex::decode("50515253c0c1c2c3c4c5c6c7").unwrap();
        let plain = b"Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the future, sunscreen would be it.";
        let key = VaultKey::from_bytes(key.try_into().unwrap());
        let nonce: [u8; NONCE_LEN] = nonce.try_into().unwrap();
        let sealed = key.seal(&nonce, &aad, plain);
        assert!(hex::encode(&sealed).starts_with("bd6d179d3e83d43b9576579493c0e939"));
        assert!(hex::encode(&sealed).ends_with("c0875924c1c7987947deafd8780acf49"));
        assert_eq!(key.open(&nonce, &aad, &sealed).unwrap(), plain);
    }
}
