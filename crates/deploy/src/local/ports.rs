//! Ports that nobody else gets.

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::OwnedFd;

use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, getsockname, socket_with, sockopt};

/// A TCP port of 127.0.0.1 that is reserved until this is dropped.
///
/// The socket is bound and never listens. The kernel gives its port to no other `bind` to port 0 and to no `connect`,
/// also not to those of other programs. A server that sets `SO_REUSEADDR`, as this socket does, can bind and listen on
/// it, as often as it likes.
#[derive(Debug)]
pub(super) struct ReservedPort {
    address: SocketAddrV4,
    _socket: OwnedFd,
}

impl ReservedPort {
    pub(super) fn new() -> io::Result<Self> {
        // Not inherited by children: theirs would hold it longer.
        let socket = socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
        sockopt::set_socket_reuseaddr(&socket, true)?;
        bind(&socket, &SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0))?;
        let address = SocketAddrV4::try_from(getsockname(&socket)?)?;
        Ok(Self { address, _socket: socket })
    }

    pub(super) fn address(&self) -> SocketAddrV4 {
        self.address
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::net::{TcpListener, TcpStream, UdpSocket};

    use super::*;

    /// The range of the system has 28,232 ports; those in use are few.
    const TRIES: usize = 4_000;

    #[test]
    fn the_system_gives_a_reserved_port_to_no_bind_and_no_connect() {
        let reserved: Vec<ReservedPort> = (0..500).map(|_| ReservedPort::new().unwrap()).collect();
        let ports: HashSet<u16> = reserved.iter().map(|port| port.address().port()).collect();
        assert_eq!(ports.len(), reserved.len(), "each one is another port");

        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = server.local_addr().unwrap();
        let mut given = HashSet::new();
        let mut held = Vec::new();
        for _ in 0..TRIES {
            // std sets SO_REUSEADDR.
            let bound = TcpListener::bind("127.0.0.1:0").unwrap();
            let everywhere = TcpListener::bind("0.0.0.0:0").unwrap();
            let connected = TcpStream::connect(address).unwrap();
            let _ = server.accept().unwrap();
            for taken in [&bound, &everywhere].map(|bound| bound.local_addr().unwrap()) {
                assert!(!ports.contains(&taken.port()), "bind(0) got {taken}");
            }
            let from = connected.local_addr().unwrap().port();
            assert!(!ports.contains(&from), "connect got {from}");
            given.extend([bound.local_addr().unwrap().port(), from]);
            // As many as a machine may have open, so that the rest of the range is looked through.
            if held.len() < 200 {
                held.push(bound);
            }
        }
        assert!(given.len() > TRIES / 2, "the tries went over the range: {}", given.len());
    }

    #[test]
    fn a_server_listens_on_a_reserved_port_again_and_again() {
        let reserved = ReservedPort::new().unwrap();
        for _ in 0..3 {
            let refused = TcpStream::connect(reserved.address()).unwrap_err();
            assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused, "nobody listens");
            let server = TcpListener::bind(reserved.address()).unwrap();
            let client = TcpStream::connect(reserved.address()).unwrap();
            // The server closes first, which leaves its side of the connection in TIME_WAIT.
            drop(server.accept().unwrap());
            drop(server);
            drop(client);
        }
        let everywhere = TcpListener::bind(("0.0.0.0", reserved.address().port())).unwrap();
        TcpStream::connect(reserved.address()).unwrap();
        drop(everywhere);
    }

    #[test]
    fn what_a_reservation_does_not_do() {
        let reserved = ReservedPort::new().unwrap();
        // A server without SO_REUSEADDR is refused.
        let plain = socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None).unwrap();
        assert_eq!(bind(&plain, &reserved.address()), Err(rustix::io::Errno::ADDRINUSE));
        // Another program that names the port gets it, and then the node does not.
        let other = TcpListener::bind(reserved.address()).unwrap();
        assert_eq!(TcpListener::bind(reserved.address()).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        drop(other);
        // UDP has ports of its own.
        UdpSocket::bind(reserved.address()).unwrap();
        // It ends with the reservation.
        let address = reserved.address();
        drop(reserved);
        bind(&plain, &address).unwrap();
    }
}
