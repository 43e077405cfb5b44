Feature: Every step

  Background:
    Given nodes n1, n2 that name n1 leader
    And they are observed as "raft"

  Scenario: Freshness
    Given the observer "raft" is running
    Then the observer "raft" is fresh within 5 seconds
    And the observer "raft" stays fresh for 10 seconds
    When the observer "raft" is paused
    Then the observer "raft" becomes stale within 1 minute
    When the observer "raft" is resumed
    Then the observer "raft" is fresh within 500 ms
    And the observer "raft" is running

  Scenario: States
    Then the observer "raft" reaches state Polling within 5 seconds
    And the observer "raft" reaches state Idle within 5 seconds
    And the observer "raft" has recorded no failure
    When all nodes are gone
    Then the observer "raft" reaches state "failed" within 5 seconds
    When the observer "raft" is stopped
    Then the observer "raft" reaches state Stopped within 5 seconds

  Scenario: Sources
    Then the observer "raft" has 2 sources within 5 seconds
    And the observer "raft" source "n1" is fresh within 5 seconds
    When node n1 hangs
    And node n2 refuses
    Then the observer "raft" source "n1" is stale within 5 seconds
    And the observer "raft"'s source "n2" is failing within 5 seconds
    When node n3 names n2 leader
    Then the observer "raft" source "n3" is fresh within 5 seconds
    And the observer "raft" has 3 sources within 5 seconds

  Scenario: Snapshots and events
    Then the observer "raft" snapshot at "/n1/leader" becomes "n1" within 5 seconds
    And the observer "raft" has seen at least 2 events within 5 seconds
    When node n1 names n2 leader
    Then the observer "raft" snapshot at "/n1" becomes "{"leader": "n2"}" within 5 seconds
    And the observer "raft" has seen at least 3 events within 5 seconds

  Scenario: A poll of a paused observer is seen by the steps behind it
    When the observer "raft" is paused
    And node n1 names n2 leader
    And the observer "raft" is polled now
    Then the observer "raft" snapshot at "/n1/leader" becomes "n2" within 5 seconds

  Scenario: An invariant that holds
    Given no node of "raft" may name n3 leader
    When node n1 names n2 leader
    Then the observer "raft" snapshot at "/n1/leader" becomes "n2" within 5 seconds
