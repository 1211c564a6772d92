"""The defaults of calibration. Functions, profiles and the command line share them."""

T = 0.7  # temperature of Eq. 2
SHIFT = "layer"  # as in the paper's released code
ESTIMATOR = "plug-in"  # as in the paper's released code
FIELD = "question"  # the field of a JSONL line that is read; the paper does not say which field of s1K it took
CLUSTERS = 20  # K-means clusters of the texts, as in the paper
PER_CLUSTER = 5  # texts drawn from each cluster, as in the paper
TEXT_SEED = 54  # seed of the choice of texts
SEED = 0  # seed of the controls' random numbers
DTYPE = "float32"  # in which the models compute
DEVICE = "cpu"
THREADS = 1  # for the estimates
