//! Which requests the engine gets, and which it does not.

use std::future::pending;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use futures_util::future::join_all;
use tokio::net::TcpListener;
use tokio_util::task::AbortOnDropHandle;

use super::*;
use crate::app::Counting;
use crate::shared::lock;

#[path = "../../../tests/contract/mod.rs"]
mod contract;

use contract::State;

const SOON: Duration = Duration::from_secs(15);

type Control = ContainerControl<Counting>;

fn control(docker: Docker) -> Control {
    ContainerControl::new(docker.clone(), ContainerNodes::new(docker, "cluster", Arc::new(Counting)))
}

impl Control {
    /// What an event of the engine causes, and returns when it is done.
    async fn cut_again(&self) {
        let nodes: Vec<String> = lock(&self.cuts).keys().cloned().collect();
        for node in nodes {
            let _ = self.cut_one_again(&node).await;
        }
    }
}

/// An engine that answers the first `lists` requests for its containers; then it fails.
#[derive(Clone, Copy)]
struct Engine {
    lists: usize,
    /// It fails by silence, not by an error.
    hangs: bool,
}

impl Engine {
    async fn serve(self) -> (Control, AbortOnDropHandle<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let asked = Arc::new(AtomicUsize::new(0));
        let answer = move |uri: Uri| self.answer(uri, Arc::clone(&asked));
        let serving = async move { axum::serve(listener, Router::new().fallback(answer)).await.unwrap() };
        let docker = Docker::connect_with_host(&format!("tcp://{addr}")).unwrap();
        (control(docker), AbortOnDropHandle::new(tokio::spawn(serving)))
    }

    async fn answer(self, uri: Uri, asked: Arc<AtomicUsize>) -> Response {
        if uri.path().ends_with("/kill") {
            return StatusCode::NO_CONTENT.into_response();
        }
        if uri.path().ends_with("/containers/json") && asked.fetch_add(1, Ordering::Relaxed) < self.lists {
            // One that has no address.
            let labels = r#"{"watchkeeper.node":"n1","watchkeeper.port":"4000"}"#;
            return format!(r#"[{{"Id":"c1","Labels":{labels}}}]"#).into_response();
        }
        if self.hangs { pending().await } else { StatusCode::INTERNAL_SERVER_ERROR.into_response() }
    }
}

#[tokio::test]
async fn a_kill_that_worked_is_no_failure_when_the_engine_fails_after_it() {
    let (control, _engine) = Engine { lists: 1, hangs: false }.serve().await;
    control.kill("n1").await.unwrap();
    let error = control.kill("n1").await.unwrap_err();
    assert_eq!(error.to_string(), "could not kill n1", "its container was not found");
}

#[tokio::test]
async fn an_engine_that_hangs_does_not_prolong_the_wait_for_a_node() {
    let waits = [
        (0, "n1 was not ready within 2s: the engine does not answer"),
        (1, "n1 was not ready within 2s: the engine does not answer"),
        (
            2,
            "n1 was not ready within 2s: its container is not known to the engine in time; it gave no answer",
        ),
    ]
    .map(async |(lists, expected)| {
        let (control, _engine) = Engine { lists, hangs: true }.serve().await;
        let waited = control.wait_ready("n1", Duration::from_secs(2));
        let error = timeout(SOON, waited).await.expect("it ends in time").unwrap_err();
        assert_eq!(error.to_string(), expected, "after {lists} lists");
    });
    join_all(waits).await;
}

struct Container {
    name: &'static str,
    pid: Option<i64>,
    is_paused: bool,
    network: &'static str,
}

impl Container {
    fn state(&self) -> State {
        match (self.pid, self.is_paused) {
            (None, _) => State::Down,
            (Some(_), true) => State::Paused,
            (Some(_), false) => State::Runs,
        }
    }
}

/// An engine with the containers of one cluster.
#[derive(Clone, Default)]
struct Machine {
    /// By id.
    containers: Arc<std::sync::Mutex<BTreeMap<String, Container>>>,
    /// The actions on containers.
    done: Arc<std::sync::Mutex<Vec<String>>>,
    out_of_order: Arc<std::sync::Mutex<Option<OutOfOrder>>>,
}

/// The requests that the engine does not answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum OutOfOrder {
    Lists,
    Inspections,
}

impl Machine {
    fn put(&self, id: &str, name: &'static str, pid: Option<i64>) {
        let container = Container { name, pid, is_paused: false, network: "kv_raft" };
        lock(&self.containers).insert(id.to_owned(), container);
    }

    fn state(&self, id: &str) -> State {
        lock(&self.containers)[id].state()
    }

    fn done(&self) -> Vec<String> {
        std::mem::take(&mut lock(&self.done))
    }

    async fn serve(&self) -> (Control, AbortOnDropHandle<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let machine = self.clone();
        let answer = move |uri: Uri| std::future::ready(machine.answer(&uri));
        let serving = async move { axum::serve(listener, Router::new().fallback(answer)).await.unwrap() };
        let docker = Docker::connect_with_host(&format!("tcp://{addr}")).unwrap();
        let mut control = control(docker);
        let done = Arc::clone(&self.done);
        control.set_traffic = Arc::new(move |node, traffic| {
            lock(&done).push(format!("{traffic:?} at {}", node.pid));
            Box::pin(std::future::ready(Ok(())))
        });
        (control, AbortOnDropHandle::new(tokio::spawn(serving)))
    }

    fn answer(&self, uri: &Uri) -> Response {
        let words: Vec<&str> = uri.path().trim_start_matches('/').split('/').collect();
        let mut containers = lock(&self.containers);
        let ["containers", rest @ ..] =
            &words[words.iter().position(|word| *word == "containers").unwrap()..]
        else {
            unreachable!("it was looked for")
        };
        let out_of_order = *lock(&self.out_of_order);
        if matches!(
            (out_of_order, rest),
            (Some(OutOfOrder::Lists), ["json"]) | (Some(OutOfOrder::Inspections), [_, "json"])
        ) {
            return StatusCode::INTERNAL_SERVER_ERROR.into_response();
        }
        if let ["json"] = rest {
            // The fake selects by the name that is in the query, if one is.
            let query = uri.query().unwrap_or_default();
            let wanted = |name: &str| {
                !query.contains("watchkeeper.node%3D") || query.contains(&format!("node%3D{name}%22"))
            };
            let listed =
                containers.iter().filter(|(_, container)| wanted(container.name)).map(|(id, container)| {
                    serde_json::json!({
                        "Id": id, "Created": 1, "HostConfig": { "NetworkMode": container.network },
                        "Labels": { "watchkeeper.node": container.name, "watchkeeper.port": "4000" },
                        "NetworkSettings": { "Networks": { "raft": { "IPAddress": "127.0.0.1" } } },
                    })
                });
            return axum::Json(listed.collect::<Vec<_>>()).into_response();
        }
        let [id, action] = rest else { return StatusCode::NOT_FOUND.into_response() };
        let Some(container) = containers.get_mut(*id) else {
            return StatusCode::NOT_FOUND.into_response();
        };
        let state = container.state();
        let Container { pid, is_paused, .. } = container;
        if *action == "json" {
            let state = serde_json::json!({
                "Running": pid.is_some(), "Paused": *is_paused, "Pid": pid.unwrap_or(0), "StartedAt": format!("{pid:?}"),
            });
            return axum::Json(serde_json::json!({ "Id": id, "State": state })).into_response();
        }
        // As the real engine answers.
        let (there_already, conflict) = (StatusCode::NOT_MODIFIED, StatusCode::CONFLICT);
        let refusal = match (*action, state) {
            ("start", State::Runs) | ("stop", State::Down) => Some((there_already, "")),
            ("start", State::Paused) => {
                Some((conflict, "cannot start a paused container, try unpause instead"))
            }
            ("kill" | "pause" | "unpause", State::Down) => Some((conflict, "Container is not running")),
            ("pause", State::Paused) => Some((conflict, "Container is already paused")),
            ("unpause", State::Runs) => Some((StatusCode::INTERNAL_SERVER_ERROR, "Container is not paused")),
            _ => None,
        };
        match refusal {
            Some((StatusCode::NOT_MODIFIED, _)) => return there_already.into_response(),
            Some((status, message)) => {
                return (status, axum::Json(serde_json::json!({ "message": message }))).into_response();
            }
            None => {}
        }
        lock(&self.done).push(format!("{action} {id}"));
        match *action {
            "start" => *pid = Some(pid.unwrap_or(100) + 1),
            "stop" | "kill" => (*pid, *is_paused) = (None, false),
            "pause" => *is_paused = true,
            "unpause" => *is_paused = false,
            _ => return StatusCode::NOT_FOUND.into_response(),
        }
        StatusCode::NO_CONTENT.into_response()
    }
}

/// Each deployer had different answers when nothing was to be done.
#[tokio::test]
async fn each_action_answers_as_the_contract_says() {
    let machine = Machine::default();
    machine.put("c1", "n1", Some(7));
    let (control, _engine) = machine.serve().await;
    contract::holds(&control, "n1", async |state| machine.state("c1") == state).await;
    machine.done();
    control.end();
    contract::holds_after_the_end(&control, "n1").await;
    assert_eq!(machine.done(), [""; 0]);
}

/// It was not repeated before the engine's next event, and only the log showed that.
#[tokio::test]
async fn a_cut_that_cannot_be_made_again_is_tried_again_though_no_event_comes() {
    let machine = Machine::default();
    machine.put("c1", "n1", Some(7));
    let (mut control, _engine) = machine.serve().await;
    control.isolate("n1").await.unwrap();
    let (tries, mut tried) = tokio::sync::watch::channel(0);
    let works = Arc::clone(&control.set_traffic);
    // It fails twice, as while another program holds the packet filter.
    control.set_traffic = Arc::new(move |node, traffic| {
        tries.send_modify(|tries| *tries += 1);
        if *tries.borrow() <= 2 {
            return Box::pin(std::future::ready(Err("no iptables".into())));
        }
        works(node, traffic)
    });
    machine.put("c1", "n1", Some(9));
    control.cut_again().await;
    let problem = control.not_cut_off("n1").await.unwrap();
    assert!(problem.contains("is no longer since it has restarted (no iptables)"), "{problem}");
    machine.done();

    let keeping = control.clone();
    let _keeping =
        AbortOnDropHandle::new(tokio::spawn(async move { keeping.keep_cut(Arc::default()).await }));
    timeout(SOON, tried.wait_for(|tries| *tries == 3)).await.expect("it is tried again").unwrap();
    // The next action on the cut waits for that try.
    assert_eq!(problem_of(&control).await, None);
    assert_eq!(machine.done(), ["Dropped at 9"]);
}

async fn problem_of(control: &Control) -> Option<String> {
    control.cut("n1").lock().await.problem.clone()
}

/// Any error of the engine counted as a restart without a cut, and was logged as such each second.
#[tokio::test]
async fn an_engine_that_fails_says_nothing_of_a_cut() {
    let machine = Machine::default();
    machine.put("c1", "n1", Some(7));
    let (mut control, _engine) = machine.serve().await;
    control.isolate("n1").await.unwrap();
    for out_of_order in [OutOfOrder::Lists, OutOfOrder::Inspections] {
        *lock(&machine.out_of_order) = Some(out_of_order);
        control.cut_again().await;
        assert_eq!(problem_of(&control).await, None, "{out_of_order:?}");
        let served = control.not_cut_off("n1").await.unwrap();
        assert!(served.contains("not cut off again yet"), "{served}");
    }
    *lock(&machine.out_of_order) = None;

    // A cut that failed stays so as long as the engine does not say otherwise.
    let works = Arc::clone(&control.set_traffic);
    control.set_traffic = Arc::new(|_, _| Box::pin(std::future::ready(Err("no iptables".into()))));
    machine.put("c1", "n1", Some(9));
    control.cut_again().await;
    *lock(&machine.out_of_order) = Some(OutOfOrder::Lists);
    control.cut_again().await;
    assert_eq!(problem_of(&control).await.as_deref(), Some("no iptables"));
    *lock(&machine.out_of_order) = None;
    // One that is down is not on any network.
    machine.put("c1", "n1", None);
    control.cut_again().await;
    assert_eq!(problem_of(&control).await, None);
    control.set_traffic = works;

    // While its containers are removed, nothing is cut.
    machine.put("c1", "n1", Some(11));
    machine.done();
    control.end();
    control.cut_again().await;
    timeout(SOON, control.keep_cut(Arc::default())).await.expect("it ends with the cluster");
    assert_eq!(machine.done(), [""; 0]);
}

/// It counted as ready if the check of its cut took too long.
#[tokio::test(start_paused = true)]
async fn a_node_whose_cut_is_being_set_is_not_ready() {
    let docker = Docker::connect_with_host("tcp://127.0.0.1:1").unwrap();
    let control = control(docker);
    assert_eq!(control.not_cut_off("n1").await, None);
    let cut = control.cut("n1");
    let setting = cut.lock().await;
    let unknown = control.not_cut_off("n1").await.unwrap();
    assert!(unknown.contains("is not known"), "{unknown}");
    drop(setting);
    assert_eq!(control.not_cut_off("n1").await, None);
}

/// The filter was that of the whole machine, which lost all packets.
#[tokio::test]
async fn a_node_that_shares_its_network_is_not_cut_off() {
    for (network, of, words) in [
        ("host", "c1", "this machine (network_mode: host)"),
        ("container:c2", "c1", "the container c2"),
        ("container:c1", "c2", "the container c2"),
    ] {
        let machine = Machine::default();
        machine.put("c1", "n1", Some(7));
        machine.put("c2", "n2", Some(8));
        lock(&machine.containers).get_mut(of).unwrap().network = network;
        let (control, _engine) = machine.serve().await;
        for error in [control.isolate("n1").await, control.rejoin("n1").await] {
            let error = error.unwrap_err();
            let reason = std::error::Error::source(&error).unwrap().to_string();
            assert!(reason.contains(words) && reason.contains("its own network"), "{reason}");
        }
        control.cut_again().await;
        assert_eq!(machine.done(), [""; 0]);
    }
}

/// The restarted node had a new network, without the cut, and nothing reported that.
#[tokio::test]
async fn an_isolated_node_that_restarts_is_cut_off_again_until_it_rejoins() {
    let machine = Machine::default();
    machine.put("c1", "n1", Some(7));
    machine.put("c2", "n2", Some(8));
    let (control, _engine) = machine.serve().await;
    control.isolate("n1").await.unwrap();
    assert_eq!(machine.done(), ["Dropped at 7"]);
    control.stop("n1").await.unwrap();
    control.start("n1").await.unwrap();
    assert_eq!(machine.done(), ["stop c1", "start c1", "Dropped at 101"]);
    control.cut_again().await;
    assert_eq!(machine.done(), [""; 0], "once is enough");

    // Something else restarts it: the engine emits an event.
    machine.put("c1", "n1", Some(9));
    control.cut_again().await;
    assert_eq!(machine.done(), ["Dropped at 9"]);
    control.restart("n2").await.unwrap();
    assert_eq!(machine.done(), ["stop c2", "start c2"]);

    // It can rejoin while it is down.
    control.kill("n1").await.unwrap();
    control.rejoin("n1").await.unwrap();
    control.start("n1").await.unwrap();
    control.cut_again().await;
    assert_eq!(machine.done(), ["kill c1", "start c1"]);
    control.isolate("n1").await.unwrap();
    control.rejoin("n1").await.unwrap();
    assert_eq!(machine.done(), ["Dropped at 101", "Passed at 101"]);
}

#[tokio::test]
async fn a_cut_that_cannot_be_made_again_fails_the_start_and_is_tried_again() {
    let machine = Machine::default();
    machine.put("c1", "n1", Some(7));
    let (mut control, _engine) = machine.serve().await;
    control.isolate("n1").await.unwrap();
    let works = Arc::clone(&control.set_traffic);
    control.set_traffic = Arc::new(|_, _| Box::pin(std::future::ready(Err("no iptables".into()))));
    control.stop("n1").await.unwrap();
    let error = control.start("n1").await.unwrap_err();
    let reason = std::error::Error::source(&error).unwrap().to_string();
    assert_eq!(reason, "it was started, and is no longer cut off (no iptables)");
    control.set_traffic = works;
    machine.done();
    control.cut_again().await;
    assert_eq!(machine.done(), ["Dropped at 101"]);
}

#[tokio::test]
async fn what_is_done_to_a_node_is_done_to_the_one_container_that_has_its_name() {
    let machine = Machine::default();
    machine.put("c1", "n1", Some(7));
    machine.put("c2", "n1", Some(8));
    let (control, _engine) = machine.serve().await;
    for error in [control.kill("n1").await, control.stop("n1").await, control.isolate("n1").await] {
        let error = error.unwrap_err();
        let reason = std::error::Error::source(&error).unwrap().to_string();
        assert!(
            reason.contains("the containers c1 and c2 are both labelled watchkeeper.node=n1"),
            "{reason}"
        );
    }
    let error = control.wait_ready("n1", SOON).await.unwrap_err().to_string();
    assert!(error.contains("c1 and c2"), "{error}");
    assert_eq!(machine.done(), [""; 0]);
}

#[tokio::test]
async fn a_paused_node_is_not_stopped_and_nothing_is_done_after_the_end() {
    let machine = Machine::default();
    machine.put("c1", "n1", Some(7));
    let (control, _engine) = machine.serve().await;
    control.pause("n1").await.unwrap();
    for error in [control.stop("n1").await, control.restart("n1").await] {
        let error = error.unwrap_err();
        let reason = std::error::Error::source(&error).unwrap().to_string();
        assert_eq!(reason, "it is paused: resume it first, or kill it");
    }
    assert_eq!(machine.done(), ["pause c1"]);
    control.end();
    let error = control.resume("n1").await.unwrap_err();
    assert!(std::error::Error::source(&error).unwrap().to_string().contains("was shut down"), "{error}");
    let error = control.wait_ready("n1", SOON).await.unwrap_err().to_string();
    assert!(error.contains("was shut down"), "{error}");
    assert_eq!(machine.done(), [""; 0]);
}
