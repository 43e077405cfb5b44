Feature: Answers that are older than the step

  Background:
    Given nodes n1, n2 that name n1 leader
    And they are observed as "raft" with the leader that all who answer agree on

  Scenario: Both nodes hang after they have answered
    When node n1 hangs
    And node n2 hangs
    Then the observer "raft" snapshot at "/leader" becomes "n1" within 500 ms

  Scenario: One of two nodes hangs after it has answered
    When node n1 hangs
    Then the observer "raft" snapshot at "/leader" becomes "n1" within 500 ms
