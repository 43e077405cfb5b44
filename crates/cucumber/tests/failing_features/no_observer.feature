Feature: No observer is used

  Scenario: A sum
    Then 1 and 1 are 2
