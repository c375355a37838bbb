"""hwsim's version; read from here because asking the package metadata costs a tenth of a cold start."""

VERSION = "0.1.0"
