"""What a binding would do to a load: the scaling core against a modelled queue, beside other policies. Pure."""
