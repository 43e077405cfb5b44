Feature: A run without the `after` hook

  Background:
    Given nodes n1, n2 that name n1 leader
    And they are observed as "raft"
    And no node of "raft" may name n3 leader

  Scenario: An invariant that is violated
    When node n1 names n3 leader
    Then "raft" has seen n3 named leader by n1

  Scenario: An invariant that may have held
    When node n1 names n2 leader
    Then "raft" has seen n2 named leader by n1
