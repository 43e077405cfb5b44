Feature: What fails, and its report

  Background:
    Given nodes n1, n2 that name n1 leader
    And they are observed as "raft"

  Scenario: A wait that is not met
    Then the observer "raft" snapshot at "/n1/leader" becomes "n2" within 2 seconds

  Scenario: An answer from before the step
    When node n1 hangs
    Then the observer "raft" snapshot at "/n1/leader" becomes "n1" within 500 ms

  Scenario: An invariant that is violated while a step waits
    Given no node of "raft" may name n3 leader
    When node n1 names n3 leader
    Then the observer "raft" stays fresh for 1 hour

  Scenario: An invariant that was violated before a step that does not wait
    Given no node of "raft" may name n3 leader
    When node n1 names n3 leader
    Then "raft" has seen n3 named leader by n1
    And the observer "raft" has recorded no failure

  Scenario: An invariant that is violated during other steps
    Given no node of "raft" may name n3 leader
    When node n1 names n3 leader
    Then "raft" has seen n3 named leader by n1

  Scenario: An invariant that was never judged
    Given the observer "raft" is paused
    And no node of "raft" may name n3 leader

  Scenario: An invariant that was never judged since a step failed
    Given the observer "raft" is paused
    And no node of "raft" may name n3 leader
    Then the observer "raft" is running

  Scenario: Failures that were recorded
    When all nodes are gone
    Then the observer "raft" reaches state Failed within 5 seconds
    And the observer "raft" has recorded no failure

  Scenario: Too few events
    Then the observer "raft" has seen at least 3 events within 2 seconds

  Scenario: Too few events, with nothing to judge in the window
    Given the observer "raft" has seen at least 2 events within 5 seconds
    When all nodes are gone
    Then the observer "raft" becomes stale within 1 minute
    And the observer "raft" has seen at least 3 events within 2 seconds

  Scenario: A source that does not recover
    When node n2 refuses
    Then the observer "raft" source "n2" is failing within 5 seconds
    And the observer "raft" source "n1" is failing within 2 seconds

  Scenario: A loop that runs, of sources that never answer
    Given node n1 refuses
    And node n2 hangs
    And they are observed as "dead"
    Then the observer "dead" is fresh within 2 seconds

  Scenario: A loop that keeps running, of sources that never answer
    Given node n1 refuses
    And node n2 hangs
    And they are observed as "dead"
    Then the observer "dead" stays fresh for 2 seconds
