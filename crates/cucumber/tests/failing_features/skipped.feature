Feature: Nothing that is run

  @allow.skipped
  Scenario: Later
    Then somebody writes this step
