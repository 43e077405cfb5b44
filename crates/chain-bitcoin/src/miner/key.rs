//! The owners of coins.

use std::fmt;

use bitcoin::ecdsa::Signature;
use bitcoin::hashes::{Hash as _, sha256};
use bitcoin::key::CompressedPublicKey;
use bitcoin::secp256k1::{Message, Secp256k1, SecretKey};
use bitcoin::sighash::{P2wpkhError, SighashCache};
use bitcoin::{Address, Amount, EcdsaSighashType, KnownHrp, ScriptBuf, Transaction, TxOut, Witness};

use super::spend::{Coin, Spend, SpendError};

/// A secret key, and the address that it may spend from: pay to witness public key hash.
#[derive(Clone)]
pub struct Key {
    secret: SecretKey,
    public: CompressedPublicKey,
}

impl Key {
    /// The key that is derived from this name. It is not secret: use it on chains without value only.
    ///
    /// # Examples
    ///
    /// ```
    /// use watchkeeper_chain_bitcoin::Key;
    ///
    /// assert_eq!(Key::named("alice").address(), Key::named("alice").address());
    /// assert_ne!(Key::named("alice").address(), Key::named("bob").address());
    /// ```
    #[must_use]
    pub fn named(name: &str) -> Self {
        let mut bytes = sha256::Hash::hash(name.as_bytes());
        let secret = loop {
            // Of 2^128 hashes, one is no key.
            match SecretKey::from_slice(bytes.as_byte_array()) {
                Ok(secret) => break secret,
                Err(_) => bytes = sha256::Hash::hash(bytes.as_byte_array()),
            }
        };
        let public = CompressedPublicKey(secret.public_key(&Secp256k1::signing_only()));
        Self { secret, public }
    }

    /// The script of the outputs that this key may spend.
    #[must_use]
    pub fn script(&self) -> ScriptBuf {
        ScriptBuf::new_p2wpkh(&self.public.wpubkey_hash())
    }

    /// The address as text, on regtest: `bcrt1...`.
    #[must_use]
    pub fn address(&self) -> Address {
        Address::p2wpkh(&self.public, KnownHrp::Regtest)
    }

    /// An output that this key may spend.
    #[must_use]
    pub fn paid(&self, value: Amount) -> TxOut {
        TxOut { value, script_pubkey: self.script() }
    }

    /// Signs a transaction that spends all of `coins` and makes `outputs`. The remaining value is the fee.
    ///
    /// # Errors
    ///
    /// [`SpendError`]: the coins are not worth the outputs, or are not this key's.
    pub fn spend(&self, coins: &[Coin], outputs: &[TxOut]) -> Result<Spend, SpendError> {
        let spend = Spend::unsigned(coins, outputs)?;
        let sign = |(nth, coin)| self.sign(&spend.transaction, nth, coin);
        let witnesses = coins.iter().enumerate().map(sign).collect::<Result<Vec<_>, _>>()?;
        Ok(spend.signed(witnesses))
    }

    fn sign(&self, transaction: &Transaction, nth: usize, coin: &Coin) -> Result<Witness, SpendError> {
        let foreign = SpendError::Foreign { outpoint: coin.outpoint };
        if coin.output.script_pubkey != self.script() {
            return Err(foreign);
        }
        let sighash = SighashCache::new(transaction).p2wpkh_signature_hash(
            nth,
            &coin.output.script_pubkey,
            coin.output.value,
            EcdsaSighashType::All,
        );
        let sighash = sighash.map_err(|_: P2wpkhError| foreign)?;
        let signature = Secp256k1::signing_only()
            .sign_ecdsa(&Message::from_digest(sighash.to_byte_array()), &self.secret);
        Ok(Witness::p2wpkh(&Signature::sighash_all(signature), &self.public.0))
    }
}

/// Omits the secret.
impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key").field("address", &self.address()).finish_non_exhaustive()
    }
}
