"""The wordings: how each form of question may be put. `phrasings.py` fills them in and roughens them.

`{a}` a red car, `{the}` the red car, `{bare}` red car, `{many}` red cars, `{the2}` a second thing, `{state}` open or red.
A form is what can be answered in one way; no wording belongs to two forms. The vocabulary is kept small on purpose: the
tiny model's tokeniser has room for about two hundred words.
"""

from __future__ import annotations

_TABLE = {
    "now_what": """what is visible now?|what do you see now?|what is in the picture right now?|what can you see?
        what is there at the moment?|what is on the street right now?|tell me what you see|what do you see?
        describe the picture|anything there right now?|what is in view?|what is going on right now?|name what is in view""",
    "now_is": """is there {a}?|do you see {a}?|can you see {a}?|is {a} in view?|is there {a} right now?|{bare}?
        is {a} there now?|{bare} in view?|is {a} in the picture?|do you see {a} at the moment?|{bare} there now?
        tell me if there is {a} now|any {bare} right now?""",
    "now_colour": """what colour is {the}?|what colour does {the} have?|which colour is {the}?|tell me the colour of {the}
        {the}: what colour is it?|what is the colour of {the}?|colour of {the}?|what color is {the}?|{the} now, which colour?
        can you tell the colour of {the}?|{bare} in view, what colour?""",
    "now_where": """where is {the}?|where is {the} now?|where in the picture is {the}?|where do you see {the}?|{the}: where?
        where can you see {the}?|is {the} left, right or in the middle?|which part of the picture is {the} in?|{bare} where now?
        tell me where {the} is|on which side is {the}?|where is {the} right now?""",
    "gate_what": """is the gate open or closed?|what is the gate like now?|gate open or closed?|how is the gate now?|gate?
        tell me if the gate is open or closed|is the gate closed or open now?|what state is the gate in?|state of the gate?
        what about the gate?|open or closed, the gate?|how does the gate stand?""",
    "gate_is": """is the gate {state}?|is the gate {state} now?|gate {state}?|do you see the gate {state}?|the gate is {state}?
        is the gate {state} right now?|can you see if the gate is {state}?|the gate, is it {state}?|tell me if the gate is {state}
        is that gate {state} at the moment?|the gate {state} now?""",
    "light_what": """is the light red or green?|what colour is the light?|what does the light show?|light red or green?|light?
        which colour is the light now?|red or green light?|what is the light showing now?|state of the light?
        tell me what the light shows|how is the light now?|what about the light?|what color is the traffic light?""",
    "light_is": """is the light {state}?|is the light {state} now?|light {state}?|does the light show {state}?|the light {state} now?
        is the traffic light {state}?|is the light {state} right now?|the light, is it {state}?|tell me if the light is {state}
        do we have a {state} light now?|do you see a {state} light?""",
    "sign_what": """what does the sign say?|what is on the sign?|read the sign|what can you read on the sign?|sign?
        what does the sign show?|tell me what the sign says|which word is on the sign?|what word does the sign show now?
        what is written on the sign?|can you read the sign?|the sign says what?""",
    "day": """is it day or night?|day or night?|is it night or day now?|tell me if it is day or night|what is it, day or night?
        is this day or night?|night or day?|do we have day or night?|day or night in the picture?|is it day, or is it night?
        can you tell if it is day or night?""",
    "now_count": """how many things do you see?|how many things are in view?|how many things are there now?|how many right now?
        how many things can you see?|count what is in view|how many are in the picture?|things in view, how many?
        tell me how many things you see now|count the things in the picture|how many things are visible?""",
    "seen": """did {a} pass?|did you see {a}?|have you seen {a}?|was there {a}?|was {a} there?|has {a} come by?|did {a} come by?
        {bare} so far?|was there ever {a}?|any {bare} so far?|did {a} pass by?|have you ever seen {a}?|{bare} seen?
        tell me if {a} passed|has there been {a}?|did {a} go by?""",
    "seen_parcel": """was a parcel delivered?|did you see a parcel?|has a parcel come?|was there a parcel?|any parcel so far?
        have you seen a parcel?|did a parcel come?|parcel seen?|did anyone bring a parcel?|has there been a parcel?
        tell me if a parcel came|parcel delivered?""",
    "colour_of": """what colour was {the}?|which colour was {the}?|what colour did {the} have?|tell me what colour {the} was
        {the}: what colour was it?|what was the colour of {the}?|what color was {the}?|{the} you saw, what colour?
        can you tell what colour {the} was?|{the} had which colour?|the colour of {the} you saw?""",
    "direction": """which way did {the} go?|where did {the} go?|in which direction did {the} go?|which direction did {the} take?
        did {the} go left or right?|what was the direction of {the}?|{the}: left or right?|{the} went which way?
        tell me which way {the} went|which way was {the} going?|direction of {the}?|{bare}, which way?|where was {the} going?""",
    "stopped": """did {the} stop?|did {the} stop on the way?|has {the} stopped?|did {the} ever stop?|{the}: did it stop?
        was there a stop of {the}?|did {the} stand still?|tell me if {the} stopped|was {the} standing still at any time?
        {the} stopped?|{bare} stopped?|did you see {the} stop?""",
    "first": """what passed first?|what was the first thing you saw?|what came first?|which thing passed first?|first thing?
        what was the first thing that passed?|tell me what came first|what did you see first?|name the first thing that passed
        what was first to pass?|what was the first thing to come by?|the first thing that passed?""",
    "last": """what passed last?|what was the last thing you saw?|what came last?|which thing passed last?|last thing?
        what was the last thing that passed?|tell me what came last|what did you see last?|name the last thing that passed
        what was last to pass?|what was the last thing to come by?|the last thing that passed?""",
    "after": """what came after {the}?|what passed after {the}?|what was after {the}?|what followed {the}?|after {the}?
        which thing came after {the}?|what did you see after {the}?|tell me what came after {the}|after {the}, what came?
        what was the next thing after {the}?|what came by right after {the}?|next after {the}?""",
    "before": """what came before {the}?|what passed before {the}?|what was before {the}?|what was ahead of {the}?|before {the}?
        which thing came before {the}?|what did you see before {the}?|tell me what came before {the}|before {the}, what came?
        what was the thing right before {the}?|what came by right before {the}?|last thing before {the}?""",
    "which_first": """which came first, {the} or {the2}?|what passed first, {the} or {the2}?|{the} or {the2} first?
        did {the} or {the2} come first?|which was first, {the} or {the2}?|first: {the} or {the2}?
        what did you see first, {the} or {the2}?|tell me which came first, {the} or {the2}|{the} or {the2}, which was first?
        {the} or {the2}, what came first?|who was first, {the} or {the2}?""",
    "sequence": """what passed, in order?|what came by, in order?|name what passed, in order|what did you see, in order?
        in which order did things pass?|list what passed|tell me all that passed, in order|list what came by, in order
        what passed, from first to last?|list all that passed|everything that passed, in order?|what has passed so far, in order?""",
    "last_three": """what were the last three things?|name the last three things|last three things?|list the last three things
        what were the last three that passed?|which three things passed last?|tell me the last three things that came by
        the last three that passed, in order?|which were the last three things?|what three things came last?""",
    "count_all": """how many things passed?|how many things have you seen?|how many things passed so far?|how many passed?
        count the things that passed|how many things came by?|how many things have passed?|tell me how many things passed
        things passed so far, how many?|count what passed|how many things went by?|how many did you see pass?""",
    "count": """how many {many} passed?|how many {many} did you see?|how many {many} have you seen?|how many {many}?
        count the {many}|how many {many} came by?|how many {many} were there?|tell me how many {many} passed|number of {many}?
        {many}, how many?|how many {many} so far?|how many {many} went by?|{many} so far?""",
    "when_ago": """when did {the} pass?|when did {the} come?|how long ago did {the} pass?|when did you see {the}?|{the}: when?
        when was {the} there?|how long ago was {the} there?|how long ago did you see {the}?|tell me when {the} came
        when did {the} come by?|how long ago did {the} come?|when was {the} in view?""",
    "when_clock": """at what time did {the} pass?|what time did {the} come?|at what time did you see {the}?|time of {the}?
        at what time was {the} there?|what time was it when {the} passed?|what time did {the} pass?|{the}: at what time?
        tell me the time when {the} came|what was the time when {the} came by?|clock time of {the}?""",
    "last_seen": """when did you last see {a}?|when was the last time you saw {a}?|when was {a} last seen?|{bare} last seen when?
        how long ago did you last see {a}?|last time you saw {a}?|when did {a} last pass?|when did {a} last come by?
        tell me when you last saw {a}|when was {a} there last?|when was the last {bare}?|how long ago was the last {bare}?""",
    "how_long_view": """how long was {the} in view?|how long did you see {the}?|how long was {the} there?|how long did {the} stay?
        for how long was {the} in view?|how long was {the} visible?|for how long did you see {the}?|{the}: how long in view?
        tell me how long {the} was there|how long was {the} in the picture?|how long did {the} take to pass?""",
    "how_long_parcel": """how long was the parcel there?|how long did the parcel lie there?|how long did the parcel stay?
        for how long was the parcel there?|how long was the parcel in view?|for how long did you see the parcel?|parcel, how long?
        tell me how long the parcel was there|how long did you see the parcel?|how long was the parcel on the street?""",
    "how_long_gate": """how long was the gate {state}?|for how long was the gate {state}?|gate {state} for how long?
        how long did the gate stay {state}?|tell me how long the gate was {state}|for how long did the gate stay {state}?
        how long did you see the gate {state}?|how long was that gate {state}?|gate {state}, how long?
        for how long did you see the gate {state}?""",
    "then_gate": """was the gate open or closed when {the} passed?|how was the gate when {the} passed?|{the} passed: gate?
        what was the gate like when {the} came by?|when {the} passed, was the gate open or closed?|gate when {the} passed?
        when {the} came, how was the gate?|what state was the gate in when {the} passed?|how was the gate when {the} was there?
        tell me how the gate was when {the} came""",
    "then_light": """was the light red or green when {the} passed?|what colour was the light when {the} passed?
        {the} passed: light?|what did the light show when {the} came by?|when {the} passed, was the light red or green?
        light when {the} passed?|when {the} came, how was the light?|how was the light when {the} passed?
        how was the light when {the} was there?|tell me how the light was when {the} came""",
    "then_sign": """what did the sign say when {the} passed?|what was on the sign when {the} passed?|sign when {the} passed?
        {the} passed: sign?|what did the sign show when {the} came by?|when {the} passed, what did the sign say?
        when {the} came, what was on the sign?|which word was on the sign when {the} passed?
        what did the sign say when {the} was there?|tell me what the sign said when {the} came""",
    "fault_picture": """is the picture all right?|is the picture ok?|is the camera all right?|can you see anything at all?
        is the camera ok?|picture ok?|do you have a picture?|camera ok?|does the camera show a picture?
        tell me if the picture is all right|all right with the camera?""",
    "fault_was": """was the picture ever black?|has the picture been black?|did the picture go black?|picture ever black?
        was the picture black at any time?|did the camera go black?|has the camera been black?|tell me if the picture was ever black
        any black picture so far?|did you see a black picture?|was there ever a black picture?""",
}

TEMPLATES: dict[str, tuple[str, ...]] = {
    form: tuple(text.strip() for line in block.splitlines() for text in line.split("|"))
    for form, block in _TABLE.items()
}
