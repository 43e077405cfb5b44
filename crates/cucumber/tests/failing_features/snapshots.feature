Feature: What a snapshot has, changes to and keeps

  Background:
    Given nodes n1, n2 that name n1 leader
    And they are observed as "raft"
    And the observer "raft" has seen at least 2 events within 5 seconds

  Scenario: The value is still there
    Then the observer "raft" snapshot at "/n1/leader" is not "n1" within 2 seconds

  Scenario: An unknown value is not another value
    When node n1 hangs
    Then the observer "raft" snapshot at "/n1/leader" is not "n1" within 2 seconds

  Scenario: Null is not another value
    When node n1 answers {"leader": null}
    Then the observer "raft" snapshot at "/n1/leader" is not "n1" within 2 seconds

  Scenario: A number that could never be there
    When node n1 answers {"term": "2"}
    Then the observer "raft" snapshot at "/n1/term" becomes "\"2\"" within 2 seconds
    And the observer "raft" snapshot at "/n1/term" is not "2" within 1 hour

  Scenario: JSON that could never be there
    Then the observer "raft" snapshot at "/n1" is not "{"leader": n1}" within 1 hour

  Scenario: Nothing changes
    Then the observer "raft" snapshot at "/n1/leader" changes within 2 seconds

  Scenario: A node that refuses has not changed
    When node n1 refuses
    Then the observer "raft" snapshot at "/n1/leader" changes within 2 seconds

  Scenario: What was not known before has not changed
    Given nodes n3 that name n1 leader
    Then the observer "raft" snapshot at "/n3/leader" changes within 2 seconds

  Scenario: A change to null
    When node n1 answers {"leader": null}
    Then the observer "raft" snapshot at "/n1/leader" changes within 2 seconds

  Scenario: It does not stay
    When node n1 names n2 leader
    Then the observer "raft" snapshot at "/n1/leader" stays "n1" for 1 hour

  Scenario: It does not stay there at all
    When node n1 answers {"term": 2}
    Then the observer "raft" snapshot at "/n1/leader" stays "n1" for 1 hour

  Scenario: A number stays, the step has a string
    When node n1 answers {"term": 2}
    Then the observer "raft" snapshot at "/n1/term" stays "\"2\"" for 1 hour

  Scenario: Nothing was judged
    When the observer "raft" is paused
    Then the observer "raft" snapshot at "/n1/leader" stays "n1" for 10 seconds

  Scenario: No pointer
    Then the observer "raft" snapshot at "n1.leader" changes within 5 seconds

  Scenario: No time
    Then the observer "raft" snapshot at "/n1/leader" stays "n1" for ever

  Scenario: No JSON
    Given they are observed as "mute" without JSON
    Then the observer "mute" snapshot at "/n1" changes within 1 hour

  Scenario: No JSON to stay
    Given they are observed as "mute" without JSON
    Then the observer "mute" snapshot at "/n1" stays "n1" for 1 hour
