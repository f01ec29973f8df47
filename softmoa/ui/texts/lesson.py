"""What the Lesson tab says."""

STEPS = (
    "What an expert is",
    "Dense, sparse, soft",
    "Dispatch and combine by hand",
    "How top-1 collapses",
    "Why soft collapses less",
    "Slots and experts",
    "Guess, then look",
    "What pictures cannot tell",
)
STEP_LIST = "Steps of the lesson"
BACK, NEXT = "Back", "Next"
SEED, SEED_INFO = "Seed", "Another seed draws other random numbers; the same seed, the same ones."
CLIP, BUNDLE, LAYER = "Example clip", "Trained adapters (bundle)", "Layer"
NO_BUNDLE = "There is no bundle with a soft mixture, so this step has nothing to show."
NO_SUCH = "Choose a clip and a bundle from the lists."

EXPERT = r"""### 1. What an expert is
The transformer holds a **token**, a list of numbers, for each patch of the spectrogram, and two
more that stand for the whole clip. The transformer stays frozen. What learns is an **adapter**: a
small network that squeezes each token through a narrow middle and adds its answer to what the
frozen layer says.

$A(x) = W_{up}\,\mathrm{gelu}(W_{down}\,x + b_{down}) + b_{up}$

Gelu is a smooth bend: without it the two matrices would be one.

An **expert** is one such adapter among several. Move the slider: the picture is to scale, and the
numbers are counted on the real modules."""
WIDTH, NARROW = "Width of a token", "Width of the middle"

KINDS = r"""### 2. Dense, sparse, soft
Who works on what? A **router** has a vector $\phi_j$ for each expert and takes $x_i \cdot \phi_j$
as the *routing logit* of token $i$ and expert $j$.

- **Dense**: every expert answers every token; **softmax** over the experts ($e$ to the power of
  each routing logit, divided by their sum) makes weights that sum to 1, which weigh the answers.
- **Sparse (top-1)**: only the expert with the largest routing logit answers, and the others are
  left out.
- **Soft**: an expert reads no token but a *slot*, a mixture of all tokens; each token then takes a
  mixture of all answers.

All tables come from the same routing logits, so the answers of dense and soft have the same
weights: what differs is what the experts read, and how often. *Sharpness* multiplies the routing
logits: at 0 all weights are even; top-1 must still choose, and takes the first expert. At a large
value soft routing comes close to a hard choice."""
SHARPNESS = "Sharpness"

BY_HAND = r"""### 3. Dispatch and combine by hand
Four tokens with two values each, and one slot per expert. The same routing logits $\ell_{ij}$ go
through two softmaxes:

**dispatch**, down each column, over the tokens:
$D_{ij} = e^{\ell_{ij}} / \sum_{i'} e^{\ell_{i'j}}$

**combine**, along each row, over the slots:
$C_{ij} = e^{\ell_{ij}} / \sum_{j'} e^{\ell_{ij'}}$

A slot is $\tilde x_j = \sum_i D_{ij} x_i$, the expert answers
$\tilde y_j = A_j(\tilde x_j)$, and a token receives $y_i = \sum_j C_{ij}\,\tilde y_j$. Here the
experts only multiply: the first by 2, the second by −1, the third by ½.

*Try*: set one routing logit of a column to 4 and the rest to −4. The slot is now that token
alone."""
SLOTS = "Slots"

COLLAPSE = r"""### 4. How top-1 collapses
Two mixtures of six experts learn the same toy task, here and now: 200 steps, the same clips, the
same seed. Under **top-1** an expert learns only from tokens it was given. Those that win early get
better, win more, and the rest never learn: they are *dead* (counted below: those with less than 1 %
of an equal share; *effective experts*: as many that shared evenly would be as uneven).

The usual cure is a **balancing loss** (Switch): $n \sum_j f_j p_j$, with $f_j$ the part of the
tokens that expert $j$ gets and $p_j$ its mean probability. It is 1 when both are even and $n$ when
one expert gets everything. It is added to the loss times a small factor: 0.01 in Switch, 0.1 here,
so that 200 steps suffice. **Soft** routing uses no such loss; it can still become uneven (step 5).

The toy tokens share an offset, as patches of one spectrogram do; without it the collapse is milder.
Shares are combine weights, averaged over the clips of a step. The loss is that of the task alone,
without the balancing loss."""
BALANCED = "Add the balancing loss to top-1"
TRAIN = "Train again"
LINE = "step {step}: {dead} dead, {effective:.1f} effective experts, loss {loss:.2f}"

EVEN = r"""### 5. Why soft collapses less, and where it is still uneven
Each slot's dispatch weights sum to 1 by construction, so **every expert reads a full slot of every
clip**. Softmax gives every answer a weight above zero, so no expert is cut off by a choice, as
under top-1. The dispatch side cannot be uneven in this sense, so it says nothing about balance.

What can be uneven is the other side: how much the tokens take from each expert,
the **share** $P_j = \operatorname{mean}_i \sum_k C_{i,jk}$. How much an expert learns depends on it
too: a share near zero is a gradient near zero. Some seeds of step 4 leave soft experts almost
without a share (try 7: two of six).

Choose a clip and a layer and read the numbers.
*Choices* counts, for each expert, the tokens that take most from it."""

COUNTS = r"""### 6. Slots and experts
An expert may have several slots: the *same* adapter then reads several different mixtures. With
$n$ experts of $p$ slots the combine softmax runs over all $n\,p$ of them. **Time** grows with all
slots, $n\,p$; **parameters** grow with the experts $n$, and more slowly with $p$: a further slot
brings its vector $\phi$ alone.

Soft-MoA's authors found many experts with few slots to work best (arXiv 2402.00828).

Counted on the real modules, for one mixture of the embedded backbone's width."""
EXPERTS, SLOTS_EACH, CLIP_SECONDS = "Experts n", "Slots per expert p", "Seconds of sound"

QUIZ = """### 7. Guess, then look
Four questions about a real clip and the layer you choose. Pick an answer; the model then computes
the right one. Another clip or layer may have another answer."""
GUESS = "Your guess"
RIGHT, WRONG = "**Right.**", "**Not this time.** Right is: {choice}."
OTHER_LABEL = "Another label wins: {before} becomes {after}."
REVEAL_FIRST = "Pick an answer to see the number and the picture."

LIMITS = r"""### 8. What the pictures cannot tell
- **A bright patch is not a reason.** Dispatch says what a slot is mixed from, not what the expert
  made of it.
- **Tokens are not patches for long.** From the second layer on, attention has already mixed them; a
  patch stands where it began, not for what it has heard since.
- **A loud voice need not matter.** The next layer may cancel what an expert adds.
- **Experts have no names.** Number 3 of one layer has nothing to do with number 3 of the next, and
  another seed gives other experts.

The test of *mattering* is to take the expert away and look: press the button. Each point is one
expert of one layer on this clip."""
MEASURE = "Remove every expert, one at a time"
RANKS = (
    "Rank correlation, over all experts of all layers, between the mean length of what an expert "
    "adds and the size of the change of the class logit: {value:.2f} (1 would mean that the louder "
    "voice always matters more, 0 that loudness tells nothing). Clip: {clip}; class: {label}."
)
ACROSS, UP = "mean length of what it adds", "size of the change of the class logit"
GLOSSARY_TITLE = "Glossary"
GLOSSARY = """
| word | meaning |
|---|---|
| token | a vector of the transformer: one per patch, and two that stand for the whole clip |
| adapter, expert | a small trained network beside a frozen layer |
| router, phi (φ) | the trained vectors that tokens are compared with |
| routing logit | the product of a token and a slot's φ; softmax makes weights of these |
| class logit | what the model says of a label, from which its probability is computed |
| slot | an input of an expert, a mixture of all tokens; an expert has one or more |
| dispatch | weights of the tokens in a slot; over the tokens they sum to 1 |
| combine | weights of the slots in a token's answer; over the slots they sum to 1 |
| share, $P_j$ | combine weight of an expert, as a mean over the tokens |
| contribution | mean length of what an expert adds, as a share of all experts' |
| dead expert | one that gets less than 1 % of an equal share |
| effective experts | e to the entropy of the shares: the number of equally used experts \
that would have the same entropy |
"""
