//! Requests a second, beside a handler that stores nothing.

use std::path::Path;

use super::operation::{batch, operation};
use super::samples::{median, micros};
use super::server::Server;
use super::sync::fdatasync;
use super::{null, wrk};

const ROUNDS: usize = 5;
const SECONDS: usize = 2;
const BATCH: usize = 100;

/// Where requests go.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Place {
    Null,
    Memory,
    Buffered,
    Group,
}

const PLACES: [Place; 4] = [Place::Null, Place::Memory, Place::Buffered, Place::Group];

#[derive(Clone, Copy, Debug, PartialEq)]
enum What {
    Post,
    Batch,
    Stats,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Contestant {
    place: Place,
    what: What,
    connections: usize,
}

/// The median of each figure.
struct Figures {
    events_per_second: f64,
    p50: f64,
    p99: f64,
    p999: f64,
    cpu_micros: f64,
}

pub(crate) fn contestants(is_wanted: &impl Fn(&str) -> bool) -> Vec<Contestant> {
    let mut all = Vec::new();
    let mut add = |what, connections, places: &[Place]| {
        all.extend(places.iter().map(|place| Contestant { place: *place, what, connections }));
    };
    if is_wanted("post") {
        for connections in [1, 64, 256] {
            add(What::Post, connections, &PLACES);
        }
    }
    if is_wanted("batch") {
        add(What::Batch, 16, &PLACES);
    }
    if is_wanted("stats") {
        add(What::Stats, 64, &[Place::Null, Place::Memory]);
    }
    all
}

pub(crate) async fn run(directory: &Path, contestants: &[Contestant]) {
    let servers = Servers {
        null: null::start().await,
        memory: Server::start(directory, "", true).await,
        buffered: Server::start(directory, "durability = \"buffered\"", false).await,
        group: Server::start(directory, "durability = \"group\"", false).await,
    };
    let mut samples: Vec<Vec<Figures>> = contestants.iter().map(|_| Vec::new()).collect();
    let mut syncs = Vec::new();
    // The first round warms up, and does not count.
    for round in 0..=ROUNDS {
        syncs.push(fdatasync(directory));
        for (contestant, samples) in contestants.iter().zip(&mut samples) {
            let figures = contestant.run(&servers, if round == 0 { 1 } else { SECONDS }).await;
            if round > 0 {
                samples.push(figures);
            }
        }
    }
    println!("`fdatasync` between the rounds: {:.0} us.\n", median(syncs));
    println!(
        "| request | connections | to | events/s | times the null handler | p50 | p99 | p99.9 | CPU an event |"
    );
    println!("|---|---|---|---|---|---|---|---|---|");
    let mut null = f64::NAN;
    for (contestant, samples) in contestants.iter().zip(&samples) {
        let of = |field: fn(&Figures) -> f64| median(samples.iter().map(field).collect());
        let rate = of(|figures| figures.events_per_second);
        if contestant.place == Place::Null {
            null = rate;
        }
        println!(
            "| {} | {} | {} | {rate:.0} | {:.2} | {} | {} | {} | {:.1} us |",
            contestant.what.name(),
            contestant.connections,
            contestant.place.name(),
            rate / null,
            micros(of(|figures| figures.p50)),
            micros(of(|figures| figures.p99)),
            micros(of(|figures| figures.p999)),
            of(|figures| figures.cpu_micros),
        );
    }
    println!();
}

struct Servers {
    null: Server,
    memory: Server,
    buffered: Server,
    group: Server,
}

impl Contestant {
    async fn run(&self, servers: &Servers, seconds: usize) -> Figures {
        let server = match self.place {
            Place::Null => &servers.null,
            Place::Memory => &servers.memory,
            Place::Buffered => &servers.buffered,
            Place::Group => &servers.group,
        };
        let (path, body, events) = match self.what {
            What::Post => ("/v1/observer/event", Some(operation(1)), 1.0),
            What::Batch => ("/v1/observer/events", Some(batch(BATCH)), BATCH as f64),
            What::Stats => ("/v1/observer/stats", None, 1.0),
        };
        let path = if self.place == Place::Null { null::PATH } else { path };
        let before = server.cpu();
        let measured = wrk::run(server.address, path, body.as_deref(), self.connections, seconds).await;
        Figures {
            events_per_second: measured.per_second * events,
            p50: measured.p50,
            p99: measured.p99,
            p999: measured.p999,
            cpu_micros: (server.cpu() - before) / (measured.requests * events) * 1e6,
        }
    }
}

impl What {
    fn name(self) -> &'static str {
        match self {
            Self::Post => "`POST event`",
            Self::Batch => "`POST events`, 100 in each",
            Self::Stats => "`GET stats`",
        }
    }
}

impl Place {
    fn name(self) -> &'static str {
        match self {
            Self::Null => "null handler",
            Self::Memory => "memory",
            Self::Buffered => "`buffered`",
            Self::Group => "`group`",
        }
    }
}
