"""What the Lesson tab says."""

STEPS = (
    "Watch experts collapse",
    "What an expert is",
    "Dense, sparse, soft",
    "Dispatch and combine by hand",
    "Why soft collapses less",
    "Slots and experts",
    "Guess, then look",
    "What pictures cannot tell",
)

COLLAPSE = r"""### 1. Watch experts collapse
Two mixtures of six **experts**, small networks among which a *router* shares the work, learn the
same toy task, here and now: 200 steps, the same clips, the same seed. Each colour is one expert's
share.

Under **top-1** each *token*, a piece of the sound, goes to one expert, and an expert learns only
from tokens it was given. Those that win early get better, win more, and the rest never learn: they
are *dead* (less than 1% of an equal share). Under **soft** every expert reads a mixture of all
tokens and always learns; its shares can still become uneven (step 5). The steps that follow say
how each part works."""
CURE = r"""Switch adds $n \sum_j f_j p_j$ to the loss, with $f_j$ the part of the tokens that
expert $j$ gets and $p_j$ its mean probability: 1 when both are even, $n$ when one expert gets
everything. It is taken times 0.1 here (0.01 in Switch), so that 200 steps suffice."""
COLLAPSE_NOTE = (
    "Shares are combine weights, as a mean over the clips of a step. *Effective experts*: as many "
    "that shared evenly would be as uneven. The loss is that of the task alone. The toy tokens "
    "share an offset, as patches of one spectrogram do; without it the collapse is milder."
)

EXPERT = r"""### 2. What an expert is
The transformer holds a **token**, a list of numbers, for each patch of the spectrogram, and two
more for the whole clip. It stays frozen. What learns is an **adapter**: it squeezes each token
through a narrow middle and adds its answer to what the frozen layer says.

$A(x) = W_{up}\,\mathrm{gelu}(W_{down}\,x + b_{down}) + b_{up}$

Gelu is a smooth bend: without it the two matrices would be one. An **expert** is one such adapter
among several. Move the slider: the picture is to scale."""

KINDS = r"""### 3. Dense, sparse, soft
Who works on what? A **router** has a vector $\phi_j$ for each expert and takes $x_i \cdot \phi_j$
as the *routing logit* of token $i$ and expert $j$.

- **Dense**: every expert answers every token. A **softmax** over the experts ($e$ to the power of
  each routing logit, divided by their sum) gives the weights of the answers.
- **Sparse (top-1)**: only the expert with the largest routing logit answers.
- **Soft**: an expert reads no token but a *slot*, a mixture of all tokens, and each token takes a
  mixture of all answers.

Dense and soft weigh the answers alike; what differs is what the experts read, and how often:
12 readings, 4 and 3 for these four tokens. *Sharpness* multiplies the routing logits: at 0 all
weights are even, and top-1 must still choose; at a large value soft comes close to a hard choice.

*Careful*: arXiv 2506.05928 says "Soft MoA" for a weighted sum of all experts. That is **dense**
here (Dense-MoA); Soft-MoA (arXiv 2402.00828) has slots."""
KINDS_SHOWN = (
    "Routing logits",
    "Dense: weights of the answers (rows sum to 1)",
    "Top-1: weight of the one answer",
    "Soft, **dispatch**: what a slot is mixed from (columns sum to 1)",
    "Soft, **combine**: weights of the answers (rows sum to 1)",
)

BY_HAND = r"""### 4. Dispatch and combine by hand
Four tokens of two values, one slot per expert. The same routing logits $\ell_{ij}$ go through two
softmaxes:

**dispatch**, down each column, over the tokens:
$D_{ij} = e^{\ell_{ij}} / \sum_{i'} e^{\ell_{i'j}}$

**combine**, along each row, over the slots:
$C_{ij} = e^{\ell_{ij}} / \sum_{j'} e^{\ell_{ij'}}$

A slot is $\tilde x_j = \sum_i D_{ij} x_i$, the expert answers $\tilde y_j = A_j(\tilde x_j)$, and a
token receives $y_i = \sum_j C_{ij}\,\tilde y_j$. Here the experts only multiply, by 2, −1 and ½.

*Try*: set one routing logit of a column to 4 and the rest to −4. The slot is now that token
alone."""
HAND_SHOWN = (
    "Routing logits ℓ",
    "Tokens x",
    "**Dispatch** D (columns sum to 1)",
    "Slots x̃ = Dᵀx",
    "Answers ỹ",
    "**Combine** C (rows sum to 1)",
    "What the tokens receive, y = Cỹ",
)

EVEN = r"""### 5. Why soft collapses less, and where it is still uneven
Each slot's dispatch weights sum to 1 by construction: **every expert reads a full slot of every
clip**, and softmax gives every answer a weight above zero. No expert is cut off by a choice, so the
dispatch side says nothing about balance.

What can be uneven is how much the tokens take from each expert, the **share**
$P_j = \operatorname{mean}_i \sum_k C_{i,jk}$. A share near zero is a gradient near zero: seed 7 of
step 1 leaves two of six soft experts almost without one. *Choices* counts, for each expert, the
tokens that take most from it."""

COUNTS = r"""### 6. Slots and experts
An expert may have several slots: the *same* adapter then reads several different mixtures. With
$n$ experts of $p$ slots the combine softmax runs over all $n\,p$ of them. **Time** grows with all
slots, $n\,p$; **parameters** grow with the experts $n$, and more slowly with $p$: a further slot
brings its vector $\phi$ alone. Soft-MoA's authors found many experts with few slots to work best
(arXiv 2402.00828)."""

QUIZ = """### 7. Guess, then look
Four questions about a real clip and a layer. Pick an answer; the model then computes the right
one. Another clip or layer may have another answer."""
REVEAL_FIRST = "Pick an answer to see the number and the picture."

LIMITS = r"""### 8. What the pictures cannot tell
- **A bright patch is not a reason.** Dispatch says what a slot is mixed from, not what the expert
  made of it.
- **Tokens are not patches for long.** From the second layer on, attention has mixed them; a patch
  stands where it began, not for what it has heard since.
- **A loud voice need not matter.** The next layer may cancel what an expert adds.
- **Experts have no names.** Number 3 of one layer has nothing to do with number 3 of the next, and
  another seed gives other experts.

The test of *mattering* is to take the expert away and look: press the button. Each point is one
expert of one layer on this clip."""
GLOSSARY = """
- **token**: a vector of the transformer: one per patch, and two that stand for the whole clip
- **adapter, expert**: a small trained network beside a frozen layer
- **router, phi (φ)**: the trained vectors that tokens are compared with
- **routing logit**: the product of a token and a slot's φ; softmax makes weights of these
- **class logit**: what the model says of a label, from which its probability is computed
- **slot**: an input of an expert, a mixture of all tokens; an expert has one or more
- **dispatch**: weights of the tokens in a slot; over the tokens they sum to 1
- **combine**: weights of the slots in a token's answer; over the slots they sum to 1
- **share**, $P_j$: combine weight of an expert, as a mean over the tokens
- **contribution**: mean length of what an expert adds, as a share of all experts'
- **dead expert**: one that gets less than 1% of an equal share
- **effective experts**: e to the entropy of the shares: equally used experts of that entropy
"""
