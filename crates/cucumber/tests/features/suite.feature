Feature: Observers that the suite shares

  Scenario: Together with the scenario's own observer
    Given the suite is shared
    And nodes n1, n2 that name n1 leader
    And they are observed as "own"
    Then the observer "shared" has 1 source within 5 seconds
    And the observer "own" has 2 sources within 5 seconds

  Scenario: It outlives a scenario
    Given the suite is shared
    Then the observer "shared" is fresh within 5 seconds
    And the observer "shared" is running

  @serial
  Scenario: One scenario leaves it paused
    Given the suite is shared
    When the observer "shared" is paused

  @serial
  Scenario: The next one finds it running
    Given the suite is shared
    Then the observer "shared" is running
