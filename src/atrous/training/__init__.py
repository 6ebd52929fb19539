"""The LightningModule, its loss, optimiser and batch norm, and the job that runs them."""
