"""Labels of simulated results in reports and figures."""

FICTIONAL = (
    "Simulated at small scale: the documents are fictional, the writer is a grammar and not an LLM, and the model has "
    "under a million parameters. The training and the measuring are real."
)
PLUMBING = (
    "A plumbing check: the offline writer does not understand these documents, it rearranges their sentences. "
    "Its accuracies say nothing about synthetic data, and no curve is fitted to them."
)
