Feature: Failover of etcd
  Scenario: The leader is killed, another leads, and all agree
    Given three members of etcd that are observed
    When the leader is killed
    Then the observer "etcd" snapshot at "/agree" becomes "false" within 10 seconds
    And another member leads and takes a write
    When it is started again
    Then the observer "etcd" snapshot at "/agree" becomes "true" within 20 seconds
    And the observer "etcd" has recorded no failure
