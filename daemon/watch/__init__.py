"""Standing questions: asked once, answered whenever it becomes so, and when it ends.

frames absorbed --> watchman --one forward a camera--> judge --P(yes)--> machine --> new / update / end
                       |  due? share of time?                                |
settings, MQTT --> spec                                          store (restarts), desk (MQTT)
"""
