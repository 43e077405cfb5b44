//! What errors print: a test of all of them.

#[cfg(test)]
mod tests {
    #[test]
    fn every_public_error_prints_its_sentence_and_its_cause_under_debug() {
        use crate::cluster::ClusterError;
        use crate::failover::WriteError;
        use crate::{ClientError, NodeError};

        let gone = || std::io::Error::other("it is gone");
        let client = || ClientError::Unreachable { node: "node 1".to_owned(), source: gone().into() };
        let cases = [
            (
                format!("{:?}", ClusterError::Signal { id: 1, source: gone() }),
                "cannot signal node 1: see in its log whether it has ended: it is gone",
            ),
            (
                format!("{:?}", client()),
                "node 1 is unreachable: check that it runs, or ask another node: it is gone",
            ),
            (
                format!("{:?}", WriteError::Refused { key: "k".to_owned(), source: client() }),
                "cannot write k, even after 5 more tries: wait for a leader and repeat it with its serial: node 1 \
                 is unreachable: check that it runs, or ask another node: it is gone",
            ),
            (
                format!("{:?}", NodeError::NoPublicAddr { addr: "0.0.0.0:1".to_owned() }),
                "0.0.0.0:1 is not an address that others can connect to: give --public-addr",
            ),
        ];
        for (printed, expected) in cases {
            assert_eq!(printed, expected);
        }
    }
}
