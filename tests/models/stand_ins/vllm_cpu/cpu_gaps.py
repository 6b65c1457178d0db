"""Stand-ins for what vLLM's build for a CPU lacks, each a plugin that its core process loads by name.

They replace functions inside of vLLM 0.32 by slow ones that compute the same: what is proven with them is
how the harness uses vLLM, not vLLM's own kernels.
"""

from typing import Any


def sparse_attention() -> None:
    """DeepSeek V3.2 and GLM-5 attend to the `index_topk` tokens that an indexer chooses of those before.

    vLLM has no sparse attention on a CPU. Of a context that is no longer than that all are chosen, so the
    dense attention that the class has where a config names no `index_topk` gives the same.
    """
    from vllm.model_executor.models.deepseek_v2 import DeepseekV2ForCausalLM

    init = DeepseekV2ForCausalLM.__init__

    def dense(self: Any, *, vllm_config: Any, prefix: str = "") -> None:
        model = vllm_config.model_config
        assert model.max_model_len <= model.hf_config.index_topk, "dense is the same up to index_topk tokens"
        # its class has a default, which would show again
        for owner in (model.hf_config, type(model.hf_config)):
            if "index_topk" in vars(owner):
                delattr(owner, "index_topk")
        init(self, vllm_config=vllm_config, prefix=prefix)

    DeepseekV2ForCausalLM.__init__ = dense


def sigmoid_routing() -> None:
    """MiniMax M2 chooses experts by the sigmoid of their scores and a bias, among all of them.

    vLLM's router for a CPU does so among the best groups of experts only. All experts are one group.
    """
    from vllm.model_executor.layers.fused_moe.router.cpu_router import CPURouter, _grouped_topk

    compute = CPURouter._compute_routing

    def in_one_group(self: Any, hidden: Any, logits: Any, indices_type: Any, *, input_ids: Any = None) -> Any:
        if self.scoring_func != "sigmoid" or self.use_grouped_topk or self.custom_routing_function:
            return compute(self, hidden, logits, indices_type, input_ids=input_ids)
        return _grouped_topk(
            gating_output=logits,
            topk=self.top_k,
            renormalize=self.renormalize,
            num_expert_group=1,
            topk_group=1,
            scoring_func=self.scoring_func,
            routed_scaling_factor=self.routed_scaling_factor,
            e_score_correction_bias=self.e_score_correction_bias,
        )

    CPURouter._compute_routing = in_one_group


def ungated_experts() -> None:
    """The experts of Nemotron 3 are two matrices with a squared ReLU between them, and no gate.

    vLLM's kernel for a CPU has a third matrix, the gate. Theirs are multiplied one expert after the other.
    """
    import torch
    from vllm.model_executor.layers.fused_moe.activation import MoEActivation
    from vllm.model_executor.layers.fused_moe.config import FusedMoEConfig
    from vllm.model_executor.layers.fused_moe.experts.cpu_moe import CPUUnquantizedExperts
    from vllm.model_executor.layers.fused_moe.oracle import unquantized

    class UngatedExperts(CPUUnquantizedExperts):  # type: ignore[misc]
        @staticmethod
        def _supports_no_act_and_mul() -> bool:
            return True

        @staticmethod
        def _supports_activation(activation: Any) -> bool:
            return bool(activation == MoEActivation.RELU2_NO_MUL)

        def process_weights_after_loading(self, layer: Any) -> None:
            """Leave them as they are: the kernel's order is not wanted."""

        def apply(
            self,
            output: Any,
            hidden_states: Any,
            w1: Any,
            w2: Any,
            topk_weights: Any,
            topk_ids: Any,
            *rest: Any,
            **options: Any,
        ) -> None:
            total = torch.zeros_like(hidden_states, dtype=torch.float32)
            for expert in topk_ids.unique().tolist():
                token, rank = (topk_ids == expert).nonzero(as_tuple=True)
                inner = torch.relu(hidden_states[token] @ w1[expert].T).square()
                weight = topk_weights[token, rank].float().unsqueeze(1)
                total.index_add_(0, token, (inner @ w2[expert].T).float() * weight)
            output.copy_(total)

    check, kernels = FusedMoEConfig.__post_init__, unquantized.backend_to_kernel_cls

    def unchecked(self: Any) -> None:
        try:
            check(self)
        except NotImplementedError as error:  # the last thing that it does
            if "is_act_and_mul" not in str(error):
                raise

    FusedMoEConfig.__post_init__ = unchecked
    unquantized.backend_to_kernel_cls = lambda backend: [*kernels(backend), UngatedExperts]
