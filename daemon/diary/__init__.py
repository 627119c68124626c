"""The diary: in idle moments one short line for each event span, and one a day with its counts.

    archive --carriers--> Finder --spans--> Scribe --one forward a turn--> lines --> archive, MQTT
              (thread)                (engine, when nobody waits)

What cannot be written in time is counted, and said in a line of its own.
"""
