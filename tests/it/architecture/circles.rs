//! Circles of files that import each other.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::imports::{Import, Imports};

/// From each file, the files that it imports in an ordinary build, and by what.
type Graph<'i> = BTreeMap<&'i str, BTreeMap<&'i str, Vec<&'i Import>>>;

/// Enough circles, shortest first, that each import which is part of one is shown. Each is described with every
/// import that has to go to open it.
pub fn circles(imports: &Imports) -> Vec<String> {
    let graph = graph(imports);
    let edges = graph.iter().flat_map(|(from, targets)| targets.keys().map(move |to| (*from, *to)));
    let mut found: Vec<Vec<&str>> = edges.filter_map(|(from, to)| shortest_path(&graph, to, from)).collect();
    found.sort_by_key(Vec::len);
    let mut shown = BTreeSet::new();
    found.retain(|circle| {
        let new = edges_of(circle).filter(|edge| shown.insert(*edge)).count();
        new > 0
    });
    found.iter().map(|circle| describe(&graph, circle)).collect()
}

fn graph(imports: &Imports) -> Graph<'_> {
    let mut graph = Graph::new();
    for (import, target) in imports.internal().filter(|(import, _)| !import.is_test) {
        graph.entry(import.file.as_str()).or_default().entry(target).or_default().push(import);
    }
    graph
}

/// The files on the way, both ends included.
fn shortest_path<'i>(graph: &Graph<'i>, from: &'i str, to: &str) -> Option<Vec<&'i str>> {
    let mut came_from = BTreeMap::from([(from, from)]);
    let mut queue = VecDeque::from([from]);
    while let Some(file) = queue.pop_front() {
        if file == to {
            let step = |file: &&'i str| (*file != from).then(|| came_from[file]);
            let mut path: Vec<&str> = std::iter::successors(Some(file), step).collect();
            path.reverse();
            return Some(path);
        }
        for next in graph.get(file).into_iter().flat_map(BTreeMap::keys) {
            came_from.entry(next).or_insert_with(|| {
                queue.push_back(next);
                file
            });
        }
    }
    None
}

/// Each file with the next one, the last with the first.
fn edges_of<'c, 'i>(circle: &'c [&'i str]) -> impl Iterator<Item = (&'i str, &'i str)> + 'c {
    circle.iter().copied().zip(circle.iter().copied().cycle().skip(1))
}

fn describe(graph: &Graph<'_>, circle: &[&str]) -> String {
    let mut lines = vec![format!("a circle of {} files:", circle.len())];
    for (from, to) in edges_of(circle) {
        lines.push(format!("  {from} imports {to}"));
        lines.extend(
            graph[from][to].iter().map(|import| format!("    {}:{}: {}", from, import.line, import.path)),
        );
    }
    lines.join("\n")
}
