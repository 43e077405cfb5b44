Feature: Every step

  Background:
    Given nodes n1, n2 that name n1 leader
    And they are observed as "raft"

  Scenario: Freshness
    Given the observer "raft" is running
    Then the observer "raft" is fresh within 5 seconds
    And the observer "raft" stays fresh for 10 seconds
    When the observer "raft" is paused
    Then the observer "raft" becomes stale within 1 minute
    When the observer "raft" is resumed
    Then the observer "raft" is fresh within 500 ms
    And the observer "raft" is running

  Scenario: States
    Then the observer "raft" reaches state Polling within 5 seconds
    And the observer "raft" reaches state Idle within 5 seconds
    And the observer "raft" has recorded no failure
    When all nodes are gone
    Then the observer "raft" reaches state "failed" within 5 seconds
    When the observer "raft" is stopped
    Then the observer "raft" reaches state Stopped within 5 seconds

  Scenario: Sources
    Then the observer "raft" has 2 sources within 5 seconds
    And the observer "raft" source "n1" is fresh within 5 seconds
    When node n1 hangs
    And node n2 refuses
    Then the observer "raft" source "n1" is stale within 5 seconds
    And the observer "raft"'s source "n2" is failing within 5 seconds
    When node n3 names n2 leader
    Then the observer "raft" source "n3" is fresh within 5 seconds
    And the observer "raft" has 3 sources within 5 seconds

  Scenario Outline: The source set is known however the poll ends
    Given sources that join are observed as "joining", whose poll <goes>
    Then the observer "joining" has 2 sources within 5 seconds
    And the observer "joining" has 3 sources within 5 seconds

    Examples:
      | goes   |
      | hangs  |
      | fails  |
      | panics |

  Scenario: Snapshots and events
    Then the observer "raft" snapshot at "/n1/leader" becomes "n1" within 5 seconds
    And the observer "raft" has seen at least 2 events within 5 seconds
    When node n1 names n2 leader
    Then the observer "raft" snapshot at "/n1" becomes "{"leader": "n2"}" within 5 seconds
    And the observer "raft" has seen at least 3 events within 5 seconds

  Scenario: A value that is replaced, that changes and that stays
    Then the observer "raft" snapshot at "/n1/leader" stays "n1" for 10 seconds
    And the observer "raft" snapshot at "/n1/leader" is not "n2" within 5 seconds
    When node n1 names n2 leader
    Then the observer "raft" snapshot at "/n1/leader" changes within 5 seconds
    And the observer "raft"'s snapshot at "/n1/leader" is not "n1" within 5 seconds
    When node n2 answers {"term": 2, "leader": null}
    Then the observer "raft" snapshot at "/n2" changes within 5 seconds
    And the observer "raft" snapshot at "/n2/term" is not "null" within 5 seconds
    And the observer "raft" snapshot at "/n2/leader" stays "null" for 1 second
    And the observer "raft" snapshot at "/n2/term" stays "2.0" for 1m 5s

  Scenario: A value that was shown before a failure stays
    When node n2 refuses
    Then the observer "raft" source "n2" is failing within 5 seconds
    And the observer "raft" snapshot at "/n1/leader" stays "n1" for 10 seconds

  Scenario: A change that a poll of a paused observer has seen
    When the observer "raft" is paused
    And node n1 names n2 leader
    And the observer "raft" is polled now
    Then the observer "raft" snapshot at "/n1/leader" is not "n1" within 5 seconds

  Scenario: Numbers are compared as numbers
    When node n1 answers {"term": 2, "share": 0.5, "limit": 18446744073709551615, "log": [1, {"at": 2.0}]}
    Then the observer "raft" snapshot at "/n1/term" becomes "2" within 5 seconds
    And the observer "raft" snapshot at "/n1/term" becomes "2.0" within 5 seconds
    And the observer "raft" snapshot at "/n1/term" becomes "20e-1" within 5 seconds
    And the observer "raft" snapshot at "/n1/share" becomes "0.50" within 5 seconds
    And the observer "raft" snapshot at "/n1/limit" becomes "18446744073709551615" within 5 seconds
    And the observer "raft" snapshot at "/n1/log" becomes "[1.0, {"at": 2}]" within 5 seconds

  Scenario: Quotes in words, and strings that look like numbers
    Given nodes the "old" one that name n1 leader
    And they are observed as "the "old" raft"
    Then the observer "the \"old\" raft" source "the \"old\" one" is Fresh within 5 seconds
    And the observer "the \"old\" raft" snapshot at "/the \"old\" one/leader" becomes "n1" within 5 seconds
    When node n1 answers {"said": "a \"b\" c", "term": "2", "path": "C:\\dir"}
    Then the observer "raft" snapshot at "/n1/said" becomes "a "b" c" within 5 seconds
    And the observer "raft" snapshot at "/n1/said" becomes "a \"b\" c" within 5 seconds
    And the observer "raft" snapshot at "/n1/term" becomes "\"2\"" within 5 seconds
    And the observer "raft" snapshot at "/n1/term" becomes ""2"" within 5 seconds
    And the observer "raft" snapshot at "/n1/path" becomes "C:\dir" within 5 seconds

  Scenario Outline: Times as people write them
    Then the observer "raft" is fresh within <time>

    Examples:
      | time                   |
      | 500 MS                 |
      | 2 Seconds              |
      | 1 Min                  |
      | 1 minute and 5 seconds |
      | 1 hour, 5 Minutes      |
      | 1m 5s                  |
      | 1.5 s                  |

  Scenario: A poll of a paused observer is seen by the steps after it
    When the observer "raft" is paused
    And node n1 names n2 leader
    And the observer "raft" is polled now
    Then the observer "raft" snapshot at "/n1/leader" becomes "n2" within 5 seconds

  Scenario: An invariant that holds
    Given no node of "raft" may name n3 leader
    When node n1 names n2 leader
    Then the observer "raft" snapshot at "/n1/leader" becomes "n2" within 5 seconds
