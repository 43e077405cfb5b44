Feature: Scenarios at the same time on one observer

  Scenario: Early
    Given the suite is shared
    When the suite's nodes are gone
    Then the observer "shared" reaches state Failed within 5 seconds
    When the suite's node names n2 leader
    Then the observer "shared" has seen at least 1 event within 5 seconds
    And stage 1 is reached
    And another scenario has reached stage 2
    When the suite's node names n3 leader
    Then the observer "shared" has seen at least 2 events within 5 seconds
    And stage 3 is reached
    And the observer "shared" has recorded no failure

  Scenario: Late
    Given another scenario has reached stage 1
    And the suite is shared
    Then stage 2 is reached
    And another scenario has reached stage 3
    And the observer "shared" has recorded no failure
    And the observer "shared" has seen at least 1 event within 5 seconds
    And the observer "shared" has seen at least 2 events within 2 seconds
