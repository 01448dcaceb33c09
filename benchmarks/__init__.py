"""Each benchmark beside its peer or limit in the same run; `make bench` runs them all."""
