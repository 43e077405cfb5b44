//! The diagram in `ARCHITECTURE.md`, generated from the table.

use std::fmt::Write as _;
use std::path::Path;
use std::{env, fs};

use crate::table::{Do, ENDINGS, Ending, LifecycleRow, Memory, On, Onward, Place, Remembered, TABLE};
use crate::table::{Goes, WAITING, WORK_FAILED, WORKING, When};

const BEGIN: &str = "<!-- lifecycle:begin -->\n";
const END: &str = "<!-- lifecycle:end -->";

/// The box of a place. `Starting` is one box, as readers see it.
fn node(place: Place) -> &'static str {
    match place {
        Place::NotBegun => "NotBegun",
        Place::StartingRefresh | Place::StartingInit => "Starting",
        Place::Refreshing => "Refreshing",
        Place::Polling => "Polling",
        Place::Idle => "Idle",
        Place::FailedKeep => "FailedKeep",
        Place::FailedRebuild => "FailedRebuild",
        Place::Stopped => "Stopped",
    }
}

/// Where a row applies: a group by its name.
fn sources(row: &LifecycleRow<'_>) -> Vec<&'static str> {
    if row.places == WORKING {
        return vec!["working"];
    }
    if row.places == WAITING {
        return vec!["waiting"];
    }
    let mut nodes: Vec<_> = row.places.iter().copied().map(node).collect();
    nodes.dedup();
    nodes
}

fn trigger(row: &LifecycleRow<'_>) -> String {
    let on = if row.on == WORK_FAILED {
        "WorkFailed".to_owned()
    } else {
        let names: Vec<_> = row.on.iter().map(|on| name(*on)).collect();
        names.join(", ")
    };
    let when = match row.when {
        When::Always => "",
        When::Paused => " [paused]",
        When::NotPaused => " [not paused]",
        When::KeepsState => " [state kept]",
        When::LosesState => " [state lost]",
    };
    on + when
}

fn name(on: On) -> String {
    match on {
        On::Error => "error".to_owned(),
        On::TimedOut => "time-out".to_owned(),
        On::Panicked => "panic".to_owned(),
        _ => format!("{on:?}"),
    }
}

fn list(commands: &[Do]) -> String {
    if commands.is_empty() {
        return "none".to_owned();
    }
    let names: Vec<_> = commands.iter().map(|what| format!("{what:?}")).collect();
    names.join(", ")
}

/// From one node to another. Triggers with the same commands share a label.
struct Arrow {
    from: &'static str,
    to: &'static str,
    labels: Vec<(Vec<String>, Vec<Do>)>,
}

impl Arrow {
    fn add(&mut self, trigger: String, commands: &[Do]) {
        match self.labels.iter_mut().find(|(_, same)| same == commands) {
            Some((triggers, _)) => triggers.push(trigger),
            None => self.labels.push((vec![trigger], commands.to_vec())),
        }
    }

    fn draw(&self) -> String {
        let labels: Vec<_> = self
            .labels
            .iter()
            .map(|(triggers, commands)| format!("{} / {}", triggers.join(", "), list(commands)))
            .collect();
        format!("{} --> {} : {}", self.from, self.to, labels.join("<br/>"))
    }
}

/// Every transition. The end of a cycle is drawn with nothing remembered.
fn arrows() -> Vec<Arrow> {
    let mut arrows: Vec<Arrow> = Vec::new();
    for row in TABLE {
        let mut commands = row.commands.to_vec();
        let to = match row.to {
            Goes::Go(place) => node(place),
            Goes::Rest(place) => {
                let usual = |ending: &&Ending<'_>| ending.remembered == Remembered::Nothing;
                commands.extend(ENDINGS.iter().find(usual).map_or(&[][..], |e| e.commands));
                node(place)
            }
            Goes::Stay(_) => continue,
        };
        for from in sources(row) {
            if !arrows.iter().any(|it| (it.from, it.to) == (from, to)) {
                let labels = Vec::new();
                arrows.push(Arrow { from, to, labels });
            }
            for arrow in arrows.iter_mut().filter(|it| (it.from, it.to) == (from, to)) {
                arrow.add(trigger(row), &commands);
            }
        }
    }
    arrows
}

/// The nodes of a group and the box of the group itself, in one style.
fn class(name: &str, places: &[Place]) -> String {
    let mut nodes: Vec<_> = places.iter().copied().map(node).collect();
    nodes.dedup();
    format!("    class {},{name} {name}\n", nodes.join(","))
}

/// Groups differ in style: boxes around them, which Mermaid could draw, would hide the labels.
fn picture() -> String {
    let mut text = String::from("```mermaid\nstateDiagram-v2\n");
    text += "    state \"Starting (not begun)\" as NotBegun\n";
    text += "    state \"Failed (state kept)\" as FailedKeep\n";
    text += "    state \"Failed (to be rebuilt)\" as FailedRebuild\n";
    text += "    state \"any working state\" as working\n";
    text += "    state \"any waiting state\" as waiting\n";
    text += "    [*] --> NotBegun\n";
    for arrow in arrows() {
        writeln!(text, "    {}", arrow.draw()).expect("a string grows");
    }
    text += "    Stopped --> [*]\n";
    text += "    classDef working stroke-width:3px\n";
    text += "    classDef waiting stroke-dasharray:4 3\n";
    text += &class("working", WORKING);
    text += &class("waiting", WAITING);
    text + "```\n"
}

/// The rows without a transition, and those for the end of a cycle, as tables.
fn remainder() -> String {
    let mut text = String::from("| in | on | remembered | commands |\n|---|---|---|---|\n");
    for row in TABLE {
        let Goes::Stay(memory) = row.to else { continue };
        let memory = match memory {
            Memory::Same => "as before",
            Memory::Paused => "paused",
            Memory::Resumed => "not paused",
            Memory::PollNow => "a `PollNow`",
        };
        let (place, on) = (sources(row).join(", "), trigger(row));
        let commands = list(row.commands);
        writeln!(text, "| {place} | {on} | {memory} | {commands} |").expect("a string grows");
    }
    text += "\n| remembered when a cycle ends | goes on | commands |\n|---|---|---|\n";
    for ending in ENDINGS {
        let remembered = match ending.remembered {
            Remembered::Nothing => "nothing",
            Remembered::Pause => "a pause, no `PollNow`",
            Remembered::PollNow => "a `PollNow`",
        };
        let onward = match ending.onward {
            Onward::There => "as drawn",
            Onward::NextCycle => "with the next cycle; the waiting state is passed over",
        };
        let commands = list(ending.commands);
        writeln!(text, "| {remembered} | {onward} | {commands} |").expect("a string grows");
    }
    text
}

fn drawn() -> String {
    format!(
        "\nDrawn from the table in `fsm/src/table.rs`. An arrow says what happened / what is to be \
         done about it;\na cycle that ends is drawn with nothing remembered.\n\n\
         {}\n\
         What moves nothing, and the end of a cycle with something remembered, is not in the \
         picture.\nWhat is neither there nor here is rejected.\n\n\
         {}\n",
        picture(),
        remainder(),
    )
}

#[test]
fn the_diagram_in_architecture_md_is_drawn_from_the_table() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../ARCHITECTURE.md");
    let text = fs::read_to_string(&path).expect("ARCHITECTURE.md is at the root of the workspace");
    let (before, rest) = text.split_once(BEGIN).expect("it has the begin marker");
    let (present, after) = rest.split_once(END).expect("it has the end marker");
    let drawn = drawn();
    if present == drawn {
        return;
    }
    if env::var_os("WATCHKEEPER_BLESS").is_some_and(|bless| bless == "1") {
        let text = format!("{before}{BEGIN}{drawn}{END}{after}");
        fs::write(&path, text).expect("ARCHITECTURE.md can be written");
        return;
    }
    panic!(
        "ARCHITECTURE.md shows another machine than the table; run this test with \
         WATCHKEEPER_BLESS=1, or put this between the markers:\n\n{drawn}"
    );
}
