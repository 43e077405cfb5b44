Feature: Nothing that an observer has to say

  Scenario: A sum
    Then 1 and 1 are 2
