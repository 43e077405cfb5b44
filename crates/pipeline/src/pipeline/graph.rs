//! The order of the stages.

use std::collections::HashMap;
use std::sync::Arc;

use crate::error::PipelineError;
use crate::stage::AnyStage;

/// The stages that each stage reads, by its upstreams; and an order in which each comes after those that it reads.
pub(crate) struct Graph {
    pub(crate) sources: Vec<Vec<Option<usize>>>,
    pub(crate) order: Vec<usize>,
}

const LONGEST_NAME: usize = 256;

fn check_name(what: &'static str, name: &str) -> Result<(), PipelineError> {
    let length = name.len();
    if (1..=LONGEST_NAME).contains(&length) { Ok(()) } else { Err(PipelineError::Name { what, length }) }
}

pub(crate) fn graph(pipeline: &str, stages: &[Box<dyn AnyStage>]) -> Result<Graph, PipelineError> {
    check_name("the pipeline", pipeline)?;
    if stages.is_empty() {
        return Err(PipelineError::NoStages);
    }
    let mut places = HashMap::new();
    for (place, stage) in stages.iter().enumerate() {
        check_name("a stage", stage.name())?;
        if places.insert(Arc::clone(stage.name()), place).is_some() {
            return Err(PipelineError::TwoStages { stage: Arc::clone(stage.name()) });
        }
    }
    let mut sources = Vec::with_capacity(stages.len());
    for stage in stages {
        sources.push(sources_of(&**stage, stages, &places)?);
        if let Some(problem) = stage.problem() {
            return Err(PipelineError::Setting { stage: Some(Arc::clone(stage.name())), problem });
        }
    }
    let order = order(&sources).map_err(|circle| PipelineError::Cycle {
        stages: circle.into_iter().map(|place| Arc::clone(stages[place].name())).collect(),
    })?;
    Ok(Graph { sources, order })
}

fn sources_of(
    stage: &dyn AnyStage,
    stages: &[Box<dyn AnyStage>],
    places: &HashMap<Arc<str>, usize>,
) -> Result<Vec<Option<usize>>, PipelineError> {
    let name = || Arc::clone(stage.name());
    let upstreams = stage.upstreams();
    if upstreams.is_empty() {
        return Err(PipelineError::NoUpstream { stage: name() });
    }
    let mut sources = Vec::with_capacity(upstreams.len());
    for (nth, (upstream, wanted)) in upstreams.iter().enumerate() {
        check_name("an upstream", upstream)?;
        if upstreams[..nth].iter().any(|(earlier, _)| earlier == upstream) {
            return Err(PipelineError::TwoUpstreams { stage: name(), upstream: Arc::clone(upstream) });
        }
        let Some(wanted) = wanted else {
            sources.push(None);
            continue;
        };
        let Some(place) = places.get(upstream) else {
            return Err(PipelineError::UnknownStage {
                stage: name(),
                upstream: Arc::clone(upstream),
                stages: stages.iter().map(|stage| Arc::clone(stage.name())).collect(),
            });
        };
        let (output, found) = stages[*place].output();
        if output != wanted.output {
            let upstream = Arc::clone(upstream);
            return Err(PipelineError::OutputType {
                stage: name(),
                upstream,
                wanted: wanted.output_name,
                found,
            });
        }
        sources.push(Some(*place));
    }
    Ok(sources)
}

/// Each stage after those that it reads, else a circle: each reads the one before it, the first reads the last.
fn order(sources: &[Vec<Option<usize>>]) -> Result<Vec<usize>, Vec<usize>> {
    let read = |stage: usize| sources[stage].iter().flatten().copied();
    let mut order = Vec::with_capacity(sources.len());
    let mut left: Vec<usize> = (0..sources.len()).collect();
    while !left.is_empty() {
        let (ready, waiting): (Vec<usize>, Vec<usize>) =
            left.iter().partition(|stage| read(**stage).all(|source| order.contains(&source)));
        if ready.is_empty() {
            // Each one that is left reads another one that is left: going back from any leads into a circle.
            let mut path = vec![left[0]];
            loop {
                let last = path[path.len() - 1];
                let Some(before) = read(last).find(|source| waiting.contains(source)) else {
                    return Err(path);
                };
                if let Some(begin) = path.iter().position(|stage| *stage == before) {
                    let mut circle = path.split_off(begin);
                    circle.reverse();
                    return Err(circle);
                }
                path.push(before);
            }
        }
        order.extend(ready);
        left = waiting;
    }
    Ok(order)
}

#[cfg(test)]
mod tests {
    use super::order;

    fn check(reads: &[&[usize]], expected: Result<&[usize], &[usize]>) {
        let sources: Vec<Vec<_>> =
            reads.iter().map(|reads| reads.iter().map(|source| Some(*source)).collect()).collect();
        let found = order(&sources);
        assert_eq!(found.as_deref().map_err(Vec::as_slice), expected, "{reads:?}");
    }

    #[test]
    fn each_stage_comes_after_those_that_it_reads() {
        check(&[&[], &[0], &[1]], Ok(&[0, 1, 2]));
        check(&[&[1], &[2], &[]], Ok(&[2, 1, 0]));
        // 3 reads 0 to 2; 1 reads 0.
        check(&[&[], &[0], &[], &[0, 1, 2]], Ok(&[0, 2, 1, 3]));
    }

    #[test]
    fn a_circle_is_found_without_what_leads_to_it() {
        check(&[&[0]], Err(&[0]));
        check(&[&[1], &[0]], Err(&[1, 0]));
        // 0 reads 1 reads 2 reads 3 reads 1.
        check(&[&[1], &[2], &[3], &[1], &[]], Err(&[3, 2, 1]));
    }
}
