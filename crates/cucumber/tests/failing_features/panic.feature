Feature: A run that ends by `run_and_exit`

  Scenario: One failure
    Then the observer "raft" is running
