//! A client that reads lines, backs off when it loses its peer, and gives up after the fourth loss in a minute.
//!
//! `cargo run --example worker`

use std::{net::SocketAddr, time::Duration};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::net::{TcpListener, TcpStream};
use watchkeeper::DynError;
use watchkeeper::supervise::{Backoff, Delays, Failure, FailureWindow};
use watchkeeper::supervise::{Machine, Out, Reaction, Worker, supervise};

#[rustfmt::skip] #[derive(Clone, Debug, PartialEq)] enum State { BackingOff(Duration), Connecting, Reading, GaveUp }
#[rustfmt::skip] #[derive(Debug)] enum Event { Retry, Connected, Line, Lost }
#[rustfmt::skip] #[derive(Debug)] enum Command { Connect, Read }
struct Client(State, Delays, FailureWindow);
impl Machine for Client {
    type State = State;
    type Event = Event;
    type Command = Command;
    fn state(&self) -> State {
        self.0.clone()
    }
    fn handle(&mut self, event: Event, out: &mut Out<Command>) -> Reaction<Event> {
        let Self(state, delays, losses) = self;
        match event {
            Event::Retry => *state = State::Connecting,
            Event::Connected => *state = State::Reading,
            Event::Line => delays.reset(),
            Event::Lost if losses.failed(out.now()) => *state = State::GaveUp,
            Event::Lost => *state = State::BackingOff(delays.next(out.now())),
        }
        match state {
            State::BackingOff(_) => {}
            State::Connecting => out.run(Command::Connect),
            State::Reading => out.run(Command::Read),
            State::GaveUp => out.finish(),
        }
        Reaction::Moved
    }
    fn timeout(&self) -> Option<(Duration, Event)> {
        if let State::BackingOff(delay) = self.0 { Some((delay, Event::Retry)) } else { None }
    }
    fn on_failure(&self, _: &Failure) -> Option<Event> {
        Some(Event::Lost)
    }
}

struct Connection(SocketAddr, Option<Lines<BufReader<TcpStream>>>);
impl Worker<Client> for Connection {
    async fn run(&mut self, command: Command) -> Result<Option<Event>, DynError> {
        if let (Command::Read, Some(lines)) = (command, &mut self.1) {
            println!("{}", lines.next_line().await?.ok_or("the peer has closed the connection")?);
            return Ok(Some(Event::Line));
        }
        self.1 = Some(BufReader::new(TcpStream::connect(self.0).await?).lines());
        Ok(Some(Event::Connected))
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), DynError> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let connection = Connection(listener.local_addr()?, None);
    let peer = tokio::spawn(async move {
        // It closes each connection after so many lines, and then the listener.
        for lines in [2, 0, 1] {
            let (mut socket, _) = listener.accept().await?;
            socket.write_all("a line of the peer\n".repeat(lines).as_bytes()).await?;
        }
        Ok(())
    });
    let [first, max, minute] = [10, 1_000, 60_000].map(Duration::from_millis);
    let delays = Delays::new(Backoff { first, max, jitter: 0.0, seed: 0 });
    let machine = Client(State::BackingOff(Duration::ZERO), delays, FailureWindow::new(3, minute));
    let client = supervise(machine).worker(connection).spawn()?;
    assert!(client.ended().await.is_finished() && client.state() == State::GaveUp);
    client.transitions().iter().for_each(|transition| println!("{transition}"));
    peer.await?
}
