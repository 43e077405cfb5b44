Feature: What another scenario has heard

  Scenario: Nothing is heard in this one
    When the suite's node refuses
    And the suite is shared
    Then the observer "shared" source "n1" is failing within 5 seconds
