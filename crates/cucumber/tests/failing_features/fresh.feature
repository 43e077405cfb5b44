Feature: Data that is no longer fresh, of a loop that still runs

  Background:
    Given nodes n1, n2 that name n1 leader
    And they are observed as "raft"

  Scenario: All nodes refuse after they have answered
    When node n1 refuses
    And node n2 refuses
    Then the observer "raft" stays fresh for 1 hour

  Scenario: All nodes hang after they have answered
    When node n1 hangs
    And node n2 hangs
    Then the observer "raft" stays fresh for 1 hour

  Scenario: All nodes refuse, for less time than makes their answers stale
    When node n1 refuses
    And node n2 refuses
    Then the observer "raft" stays fresh for 500 ms

  Scenario: All nodes refuse, and the loop is fresh
    When node n1 refuses
    And node n2 refuses
    Then the observer "raft" source "n1" is failing within 5 seconds
    And the observer "raft" source "n2" is failing within 5 seconds
    And the observer "raft" is fresh within 500 ms

  Scenario: One node refuses, and the other answers
    When node n1 refuses
    Then the observer "raft" stays fresh for 1 minute
    And the observer "raft" is fresh within 500 ms

  Scenario: A node that fails once
    When node n1 refuses
    And node n2 refuses
    And the observer "raft" is polled now
    And node n2 names n1 leader
    Then the observer "raft" stays fresh for 1 minute

  Scenario: No source at all
    Given nothing is observed as "empty"
    Then the observer "empty" is fresh within 2 seconds

  Scenario: No source at all, for a while
    Given nothing is observed as "empty"
    Then the observer "empty" stays fresh for 1 hour

  Scenario: No source at all in a set that is asked for
    Given nothing is observed as "empty"
    Then the observer "empty" has 0 sources within 2 seconds
