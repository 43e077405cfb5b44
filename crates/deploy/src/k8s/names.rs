//! The names of pods as sources: one name is one pod, whatever has the label.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::Pod;

use super::error::K8sError;
use super::pod::PodView;

/// A label of the pods of a Deployment, which pods of a `StatefulSet` do not have.
const TEMPLATE_HASH: &str = "pod-template-hash";

/// A set of numbered pods. Owned and bare sets of one name are not the same set.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Set {
    /// The `StatefulSet` of this name, by its pods' owner.
    Owned(String),
    /// Pods without an owner, named like those of a `StatefulSet` of this name.
    Bare(String),
}

/// A pod's place in its set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PodPlace {
    pub(super) set: Set,
    /// The node's number: the ordinal, plus 1.
    pub(super) id: u64,
}

impl PodPlace {
    /// By the name, such as `kv-0`, if the pod belongs to a `StatefulSet` called `kv` or has no owner. The random end of
    /// a Deployment's pod may be a number as well, and `kv-00` is not `kv-0`.
    pub(super) fn of(pod: &Pod) -> Option<Self> {
        let (set, ordinal) = pod.metadata.name.as_deref()?.rsplit_once('-')?;
        let number = ordinal.parse::<u64>().ok().filter(|number| number.to_string() == ordinal)?;
        let id = number.checked_add(1)?;
        let owners = pod.metadata.owner_references.as_deref().unwrap_or_default();
        let owner = owners.iter().find(|owner| owner.controller == Some(true)).or(owners.first());
        let is_of_template =
            || pod.metadata.labels.as_ref().is_some_and(|labels| labels.contains_key(TEMPLATE_HASH));
        let set = match owner {
            Some(owner) if owner.kind == "StatefulSet" && owner.name == set => Set::Owned(set.to_owned()),
            None if !is_of_template() => Set::Bare(set.to_owned()),
            _ => return None,
        };
        Some(Self { set, id })
    }
}

/// A pod, and its place if it has one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PodOfSet {
    pub(super) view: PodView,
    pub(super) place: Option<PodPlace>,
}

/// Names sources: the pods of one set are called by their number, and all others have the name of their pod.
///
/// That set is the one seen first; of several seen at once, a `StatefulSet` comes before pods without an owner.
/// Another set gets the numbers only if it appears when the first has no pod, so that no source changes its name
/// while it exists.
#[derive(Debug)]
pub(super) struct Names {
    /// The name of the node with a number.
    name: fn(u64) -> String,
    numbered: Option<Set>,
    /// Whether no other set ever gets the numbers.
    is_fixed: bool,
    /// The sets with pods that came while another had the numbers.
    others: BTreeSet<Set>,
}

impl Names {
    /// Numbers the pods of the set that is seen first.
    pub(super) fn new(name: fn(u64) -> String) -> Self {
        Self { name, numbered: None, is_fixed: false, others: BTreeSet::new() }
    }

    /// Numbers the pods of the `StatefulSet` of this name and no others.
    pub(super) fn of(set: &str, name: fn(u64) -> String) -> Self {
        let numbered = Some(Set::Owned(set.to_owned()));
        Self { name, numbered, is_fixed: true, others: BTreeSet::new() }
    }

    /// The name of each pod, and the pods that are left out because another has their name.
    pub(super) fn give<'a>(
        &mut self,
        members: impl Iterator<Item = &'a PodOfSet> + Clone,
    ) -> (BTreeMap<String, &'a PodOfSet>, Vec<K8sError>) {
        let places = members.clone().filter_map(|member| member.place.as_ref());
        self.meet(&places.map(|place| &place.set).collect());
        let number = |member: &PodOfSet| {
            let place = member.place.as_ref()?;
            (self.numbered.as_ref() == Some(&place.set)).then(|| (self.name)(place.id))
        };
        // The numbered ones first: they keep their names.
        let numbered = members.clone().filter_map(|member| number(member).map(|name| (name, member)));
        let others = members.filter(|member| number(member).is_none());
        let others = others.map(|member| (member.view.name.clone(), member));
        let mut named: BTreeMap<String, &PodOfSet> = BTreeMap::new();
        let mut left_out = Vec::new();
        for (name, member) in numbered.chain(others) {
            match named.get(&name) {
                Some(first) => left_out.push(K8sError::SameName {
                    node: name,
                    first: first.view.name.clone(),
                    second: member.view.name.clone(),
                }),
                None => drop(named.insert(name, member)),
            }
        }
        (named, left_out)
    }

    /// Updates the known sets to those that have pods now.
    fn meet(&mut self, present: &BTreeSet<&Set>) {
        self.others.retain(|set| present.contains(set));
        for &set in present {
            let has_numbers = self.numbered.as_ref();
            if has_numbers == Some(set) || self.others.contains(set) {
                continue;
            }
            if !self.is_fixed && has_numbers.is_none_or(|numbered| !present.contains(numbered)) {
                self.numbered = Some(set.clone());
            } else {
                self.others.insert(set.clone());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::pod::{NodePod, node_name};
    use super::*;

    fn named() -> Names {
        Names::new(node_name)
    }

    fn member(metadata: &Value) -> PodOfSet {
        let pod: Pod = serde_json::from_value(json!({ "metadata": metadata })).unwrap();
        PodOfSet { view: PodView::of(&pod, &NodePod::new("node", ["http"])), place: PodPlace::of(&pod) }
    }

    fn owned(name: &str, kind: &str, owner: &str) -> PodOfSet {
        let owner =
            json!({ "apiVersion": "apps/v1", "kind": kind, "name": owner, "uid": owner, "controller": true });
        member(&json!({ "name": name, "ownerReferences": [owner] }))
    }

    fn bare(name: &str) -> PodOfSet {
        member(&json!({ "name": name }))
    }

    fn names(names: &mut Names, members: &[PodOfSet]) -> Vec<String> {
        let (named, left_out) = names.give(members.iter());
        assert!(left_out.is_empty(), "{left_out:?}");
        named.into_iter().map(|(name, member)| format!("{name}={}", member.view.name)).collect()
    }

    #[test]
    fn a_node_is_numbered_from_its_pods_ordinal() {
        let place = |name: &str| bare(name).place.map(|place| place.id);
        let cases = [
            ("kv-0", Some(1)),
            ("kv-11", Some(12)),
            ("kv", None),
            ("kv-a", None),
            ("-3", Some(4)),
            ("kv-00", None),
            ("kv-+1", None),
            (&format!("kv-{}", u64::MAX), None),
        ];
        for (pod, id) in cases {
            assert_eq!(place(pod), id, "{pod}");
        }
    }

    #[test]
    fn a_number_that_is_no_ordinal_gives_no_place() {
        for other in [
            owned("web-7d9f5c-24567", "ReplicaSet", "web-7d9f5c"),
            owned("job-24567", "Job", "job"),
            owned("kv-0", "StatefulSet", "another"),
            member(&json!({ "name": "web-7d9f5c-24567", "labels": { "pod-template-hash": "7d9f5c" } })),
        ] {
            assert_eq!(other.place, None, "{}", other.view.name);
        }
    }

    #[test]
    fn two_sets_under_one_label_are_not_merged() {
        let [a0, a1] = ["a-0", "a-1"].map(|name| owned(name, "StatefulSet", "a"));
        let [b0, b1] = ["b-0", "b-1"].map(|name| owned(name, "StatefulSet", "b"));
        let web = owned("web-24567", "ReplicaSet", "web");
        let mut given = named();
        assert_eq!(names(&mut given, &[b0.clone(), web.clone()]), ["n1=b-0", "web-24567=web-24567"]);
        assert_eq!(
            names(&mut given, &[a0.clone(), a1.clone(), b0.clone(), b1.clone()]),
            ["a-0=a-0", "a-1=a-1", "n1=b-0", "n2=b-1"]
        );
        // The other pods keep their names, and so does the first set when it is back.
        assert_eq!(names(&mut given, &[a0.clone(), a1.clone()]), ["a-0=a-0", "a-1=a-1"]);
        assert_eq!(names(&mut given, &[a0.clone(), b0.clone()]), ["a-0=a-0", "n1=b-0"]);
        // A set that appears when the first has no pods gets the numbers.
        assert_eq!(names(&mut given, &[]), [""; 0]);
        assert_eq!(names(&mut given, std::slice::from_ref(&a0)), ["n1=a-0"]);

        let mut fixed = Names::of("b", node_name);
        assert_eq!(names(&mut fixed, std::slice::from_ref(&a0)), ["a-0=a-0"]);
        assert_eq!(names(&mut fixed, &[a0, b0]), ["a-0=a-0", "n1=b-0"]);
    }

    /// Both were `n1`, and the second silently replaced the first.
    #[test]
    fn an_ordinal_with_a_leading_zero_is_no_second_holder_of_a_number() {
        let mut given = named();
        assert_eq!(names(&mut given, &[bare("kv-0"), bare("kv-00")]), ["kv-00=kv-00", "n1=kv-0"]);
        assert_eq!(names(&mut named(), &[bare("kv-00")]), ["kv-00=kv-00"]);
    }

    /// It was the node `n8` of a set that had never made it.
    #[test]
    fn a_pod_without_an_owner_does_not_belong_to_the_set_of_its_name() {
        let members = [owned("kv-0", "StatefulSet", "kv"), bare("kv-1"), bare("kv-7")];
        assert_eq!(names(&mut Names::of("kv", node_name), &members), ["kv-1=kv-1", "kv-7=kv-7", "n1=kv-0"]);
        let mut given = named();
        assert_eq!(names(&mut given, &members), ["kv-1=kv-1", "kv-7=kv-7", "n1=kv-0"]);
        // Without the StatefulSet they would be a set, but they keep their names while they exist.
        assert_eq!(names(&mut given, &members[1..]), ["kv-1=kv-1", "kv-7=kv-7"]);
        assert_eq!(names(&mut named(), &members[1..]), ["n2=kv-1", "n8=kv-7"]);
    }

    /// Of two pods with one number, neither silently replaces the other.
    #[test]
    fn of_two_pods_with_one_number_one_is_left_out_and_both_are_named() {
        let first = owned("kv-0", "StatefulSet", "kv");
        let mut second = owned("kv-1", "StatefulSet", "kv");
        second.place.clone_from(&first.place);
        let members = [first, second];
        let mut given = named();
        let (named, left_out) = given.give(members.iter());
        assert_eq!((named.len(), named["n1"].view.name.as_str()), (1, "kv-0"));
        let text = left_out[0].to_string();
        assert!(text.contains("the pods kv-0 and kv-1 are both called n1"), "{text}");
    }

    #[test]
    fn a_pod_with_the_name_of_a_node_is_left_out_and_both_are_named() {
        let members = [bare("kv-0"), bare("n1")];
        let mut given = named();
        let (named, left_out) = given.give(members.iter());
        assert_eq!(named["n1"].view.name, "kv-0");
        let text = left_out[0].to_string();
        assert!(text.contains("the pods kv-0 and n1 are both called n1"), "{text}");
    }
}
