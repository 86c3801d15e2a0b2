"""An SAE of random directions, the control for findings of a trained one."""

import torch

from facsynth.sae.module import SparseAutoencoder

__all__ = ["random_directions"]


def random_directions(sae: SparseAutoencoder, *, random_seed: int = 0) -> SparseAutoencoder:
    """The same SAE with random directions in place of those that it learned.

    Gate, width, layer and biases stay, and every encoder and decoder row keeps its length.
    Pre-activations are unchanged at the input b_dec, which is about the mean of the inputs, so
    the directions read deviations from it as those of the trained SAE do.

    Args:
        sae: A trained SAE.
        random_seed: Random seed of the directions.
    """
    rng = torch.Generator().manual_seed(random_seed)
    control = SparseAutoencoder(sae.config)
    for name, value in sae.state_dict().items():
        getattr(control, name).data = value.detach().float().cpu().clone()
    encoder = torch.randn(sae.config.d_sae, sae.config.d_in, generator=rng).T
    decoder = torch.randn(sae.config.d_sae, sae.config.d_in, generator=rng)
    encoder = encoder / encoder.norm(dim=0) * control.W_enc.norm(dim=0)
    if not sae.config.apply_b_dec_to_input:
        control.b_enc.data += control.b_dec @ (control.W_enc - encoder)
    control.W_enc.data = encoder.contiguous()
    control.W_dec.data = (
        decoder / decoder.norm(dim=1, keepdim=True) * control.W_dec.norm(dim=1, keepdim=True)
    )
    return control.eval()
