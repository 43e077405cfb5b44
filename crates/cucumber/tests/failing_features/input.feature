Feature: Mistakes

  Background:
    Given nodes n1, n2 that name n1 leader
    And they are observed as "raft"

  Scenario: Unknown observer
    Then the observer "rift" is fresh within 5 seconds

  Scenario: Duplicate name
    Given they are observed as "raft"

  Scenario: Zero time
    Then the observer "raft" is fresh within 0 seconds

  Scenario: No time
    Then the observer "raft" stays fresh for a while

  Scenario: Too much time
    Then the observer "raft" becomes stale within 2 days

  Scenario: Unknown unit
    Then the observer "raft" is fresh within 1 minute and 5 parsecs

  Scenario: No unit
    Then the observer "raft" is fresh within 5

  Scenario: No number
    Then the observer "raft" is fresh within seconds

  Scenario: Negative time
    Then the observer "raft" is fresh within -5 seconds

  Scenario: Words after the time
    Then the observer "raft" is fresh within 5 seconds or so

  Scenario: Unknown state
    Then the observer "raft" reaches state Sleeping within 5 seconds

  Scenario: Unknown condition
    Then the observer "raft" source "n1" is happy within 5 seconds

  Scenario: Unknown source
    Then the observer "raft" source "n9" is fresh within 5 seconds

  Scenario: No events
    Then the observer "raft" has seen at least 0 events within 5 seconds

  Scenario: Too large a count
    Then the observer "raft" has 99999999999999999999 sources within 5 seconds

  Scenario: No pointer
    Then the observer "raft" snapshot at "n1.leader" becomes "n1" within 5 seconds

  Scenario: No escape of a pointer
    Then the observer "raft" snapshot at "/n1/a~b" becomes "n1" within 5 seconds

  Scenario: A number where the snapshot has a string
    When node n1 answers {"term": "2"}
    Then the observer "raft" snapshot at "/n1/term" becomes "2" within 2 seconds

  Scenario: A string where the snapshot has a number
    When node n1 answers {"term": 2}
    Then the observer "raft" snapshot at "/n1/term" becomes "\"2\"" within 2 seconds

  Scenario: A string where the snapshot has a number, deep inside
    When node n1 answers {"term": 2}
    Then the observer "raft" snapshot at "/n1" becomes "{"term": "2"}" within 2 seconds

  Scenario: A large number that is nearly right
    When node n1 answers {"term": 18446744073709551615}
    Then the observer "raft" snapshot at "/n1/term" becomes "18446744073709551614" within 2 seconds

  Scenario: A slip in JSON
    Then the observer "raft" snapshot at "/n1" becomes "{"leader": n1}" within 2 seconds

  Scenario: Escapes and line breaks in a snapshot
    When node n1 answers {"\u001b[2J": 1, "said": "one\ntwo\u202e\u001b[2J"}
    Then the observer "raft" snapshot at "/n1/said" becomes "one" within 2 seconds

  Scenario: Escapes in a key of a snapshot
    When node n1 answers {"\u001b[2J": 1}
    Then the observer "raft" snapshot at "/n1/said" becomes "one" within 2 seconds

  Scenario: No such path
    Then the observer "raft" snapshot at "/n1/leder/name" becomes "n1" within 5 seconds

  Scenario: No JSON
    Given they are observed as "mute" without JSON
    Then the observer "mute" snapshot at "/n1" becomes "n1" within 5 seconds

  Scenario: Paused
    When the observer "raft" is paused
    Then the observer "raft" is running

  Scenario: Stopped
    When the observer "raft" is stopped
    Then the observer "raft" is running

  Scenario: Control of what has stopped
    When the observer "raft" is stopped
    And the observer "raft" is paused

  Scenario: An unknown step
    Then the observer "raft" is fersh within 5 seconds

  Scenario: Name of the suite's
    Given the suite is shared
    And they are observed as "shared"

  Scenario: No observers
    Given nothing is observed
    Then the observer "raft" is running
