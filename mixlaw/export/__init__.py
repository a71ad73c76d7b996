"""Write a mixture as the configuration of a trainer: Megatron-LM, OLMo-core, MosaicML Streaming and others."""
