Feature: A violation that a step expects

  Background:
    Given nodes n1, n2 that name n1 leader
    And they are observed as "raft"
    And no node of "raft" may name n3 leader
    When node n1 names n3 leader
    Then "raft" cannot stay fresh, for an invariant is violated

  Scenario: Then the scenario ends

  Scenario: Then a step of the project's own passes
    Then 1 and 1 are 2

  Scenario: Then a step of the project's own fails
    Then 1 and 1 are 3

  Scenario: Then a shipped step checks the observer
    Then the observer "raft" is running
