//! What is left of a cluster or a deployment, however it ends.

use std::error::Error;
use std::time::Duration;

use watchkeeper_deploy::k8s::{K8sError, Reach};

use crate::fixture::{SPACE, cause, fixture, space};
use crate::kubelet::{NEVER_READY, NO_IMAGE};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dropped_cluster_and_a_dropped_deployment_leave_nothing() {
    let mut fixture = fixture().await;
    let cluster = fixture.deploy(1).await.unwrap();
    drop(cluster);
    fixture.left_nothing().await;

    // Dropped while it waits for pods that never come.
    fixture.options.image = Some(NO_IMAGE.to_owned());
    let deploying = fixture.deploy(1);
    let pods_there =
        fixture.server.when("a pod is there", |server| server.keys().iter().any(|key| key.kind == "pods"));
    tokio::select! {
        _ = deploying => panic!("the image does not exist"),
        () = pods_there => {}
    }
    fixture.left_nothing().await;
}

/// The drop waited for the server, on the thread where the server was to answer.
#[tokio::test]
async fn a_cluster_that_is_dropped_does_not_block_its_thread() {
    let fixture = fixture().await;
    for _ in 0..3 {
        let cluster = fixture.deploy(1).await.unwrap();
        drop(cluster);
        fixture.left_nothing().await;
    }
}

/// As when a program ends: the runtime shuts down, with everything that it would have done later.
#[test]
fn a_cluster_that_is_dropped_with_its_runtime_leaves_nothing() {
    let serving = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let fixture = serving.block_on(fixture());
    for inside in [true, false] {
        let deploying = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let cluster = deploying.block_on(fixture.deploy(1)).unwrap();
        if inside {
            deploying.block_on(async { drop(cluster) });
            drop(deploying);
        } else {
            drop(deploying);
            drop(cluster);
        }
        assert!(fixture.server.get(&space()).is_none(), "it was requested before the runtime ended");
        serving.block_on(fixture.left_nothing());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn forwarded_ports_end_with_their_cluster_though_its_control_is_held() {
    let mut fixture = fixture().await;
    fixture.options.reach = Some(Reach::PortForward);
    for shut_down in [true, false] {
        let cluster = fixture.deploy(2).await.unwrap();
        let (clients, control) = (cluster.node_clients(), cluster.node_control());
        let addrs: Vec<String> = clients.all().iter().map(|node| node.source.addr().to_owned()).collect();
        assert_eq!(addrs.len(), 2);
        if shut_down {
            cluster.shut_down().await.unwrap();
        } else {
            drop(cluster);
            fixture.left_nothing().await;
        }
        for addr in addrs {
            let refused = tokio::net::TcpStream::connect(&addr).await;
            assert!(refused.is_err(), "{addr} is still forwarded");
        }
        for late in [control.start("n1").await, control.kill("n1").await, control.restart("n1").await] {
            let late = late.unwrap_err();
            assert!(late.source().unwrap().to_string().contains("was shut down"), "{late}");
        }
        fixture.left_nothing().await;
    }
}

/// The error came while the pods still ran.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deployment_that_fails_returns_when_its_namespace_is_gone() {
    let mut fixture = fixture().await;
    fixture.options.image = Some(NO_IMAGE.to_owned());
    fixture.options.ready_within = Duration::from_millis(300);
    fixture.server.change(|state| state.held.insert("namespaces"));
    let server = &fixture.server;
    let (there, ()) = tokio::join!(
        async {
            let error = fixture.refused().await;
            assert!(matches!(cause(&error), K8sError::NotReady { .. }), "{error:?}");
            server.get(&space()).is_some()
        },
        async {
            let watched = |asked: &crate::fake::Asked| asked.verb == "watch";
            server
                .when("its end is waited for", |server| server.asked("namespaces").iter().any(watched))
                .await;
            server.remove_namespace(SPACE);
        },
    );
    assert!(!there, "it is still there when the deployment has failed");
    fixture.left_nothing().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deployment_that_fails_says_what_it_could_not_delete() {
    let mut fixture = fixture().await;
    fixture.options.image = Some(NO_IMAGE.to_owned());
    fixture.options.ready_within = Duration::from_secs(3);
    fixture.options.gone_within = Duration::from_millis(300);
    fixture.server.change(|state| state.held.insert("namespaces"));
    let error = fixture.refused().await;
    let text = cause(&error).to_string();
    assert!(text.starts_with("not ready within 3s: n1: ErrImagePull"), "{text}");
    assert!(
        text.contains(
            "the namespace counting-test is left: delete it with `kubectl delete namespace counting-test`"
        ),
        "{text}"
    );
    assert!(matches!(cause(&error), K8sError::Left { .. }), "{error:?}");
    let text = format!("{:?}", cause(&error));
    assert!(text.contains("still there after 300ms"), "{text}");

    fixture.server.change(|state| state.held.remove("namespaces"));
    fixture.server.refuse("delete", "namespaces", 403, "Forbidden", "namespaces is forbidden");
    fixture.server.remove_namespace(SPACE);
    let error = fixture.refused().await;
    assert!(
        format!("{:?}", cause(&error)).contains("the account may not (namespaces is forbidden)"),
        "{error:?}"
    );
    fixture.server.refuse_nothing();
    fixture.server.remove_namespace(SPACE);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pods_that_are_never_ready_say_why_and_leave_nothing() {
    let mut fixture = fixture().await;
    fixture.options.image = Some(NO_IMAGE.to_owned());
    fixture.options.ready_within = Duration::from_secs(3);
    let error = fixture.refused().await;
    assert_eq!(error.to_string(), "the k8s deployer could not bring the pods up");
    assert_eq!(cause(&error).to_string(), "not ready within 3s: n1: ErrImagePull: no such host");
    fixture.left_nothing().await;
}

/// The pod runs, but its readiness probe fails.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pods_that_run_and_are_never_ready_show_the_end_of_their_log() {
    let mut fixture = fixture().await;
    fixture.options.image = Some(NEVER_READY.to_owned());
    fixture.options.ready_within = Duration::from_secs(10);
    let error = fixture.refused().await;
    let status = "Running, containers with unready status: [node]";
    assert_eq!(
        cause(&error).to_string(),
        format!("not ready within 10s: n1: {status}; the end of its log: serving")
    );
    fixture.left_nothing().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_namespace_of_another_owner_is_left_alone() {
    let fixture = fixture().await;
    let theirs = serde_json::json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": {} });
    fixture.server.change(|state| state.store.put(&space(), theirs));
    let error = fixture.refused().await;
    assert!(matches!(cause(&error), K8sError::Conflict { .. }), "{error:?}");
    assert!(cause(&error).to_string().contains("already exists"), "{error:?}");
    assert_eq!(fixture.server.keys(), [space()]);
    assert!(fixture.server.asked("namespaces").iter().all(|asked| asked.verb == "create"));

    // Deleted and made again by another client while ours ran.
    fixture.server.remove(&space());
    let cluster = fixture.deploy(1).await.unwrap();
    fixture.server.change(|state| {
        let mut theirs = state.store.get(&space()).cloned().unwrap();
        theirs["metadata"]["labels"] = serde_json::json!({});
        state.store.put(&space(), theirs)
    });
    let error = cluster.shut_down().await.unwrap_err();
    assert!(matches!(cause(&error), K8sError::NotOurs { .. }), "{error:?}");
    drop(cluster);
    assert!(fixture.server.get(&space()).is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shutting_down_waits_until_the_namespace_is_gone() {
    let mut fixture = fixture().await;
    fixture.options.gone_within = Duration::from_millis(200);
    fixture.server.change(|state| state.held.insert("namespaces"));
    let cluster = fixture.deploy(1).await.unwrap();
    let error = cluster.shut_down().await.unwrap_err();
    assert!(matches!(cause(&error), K8sError::NotGone { .. }), "{error:?}");
    assert!(cause(&error).to_string().contains("kubectl get namespace counting-test"), "{error:?}");

    // The last finalizer is removed.
    fixture.server.change(|state| state.held.remove("namespaces"));
    cluster.shut_down().await.unwrap();
    assert!(fixture.server.get(&space()).is_none());
    fixture.left_nothing().await;
}
