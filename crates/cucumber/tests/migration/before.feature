Feature: Failover, polled for

  Scenario: Another node takes over
    Given three nodes that follow n1
    When n2 takes over
    Then n2 leads within 10 seconds
