"""A small table in the columns of every layout, and which of its lines are answered."""

from __future__ import annotations

from tests.measured import A100

# layout -> header, lines, and per line whether it is answered
TABLES: dict[str, tuple[str, list[str], list[bool]]] = {
    "gemm": (
        "device,op,dtype,m,n,k",
        [f"{A100},gelu,fp16,4096,0,0", f"{A100},odd,fp16,1,1,0"],
        [True, False],
    ),
    "gemm_batched": (
        "device,op,dtype,batch,m,k,n,bias",
        [
            "Tesla T4,bmm,fp32,16,64,64,64,0",
            "Tesla T4,linear,fp32,1,64,64,64,1",
            "Tesla T4,odd,fp32,1,1,1,1,0",
        ],
        [True, True, False],
    ),
    "vector": (
        "device,op,dtype,rows,cols",
        ["Tesla P4,softmax,fp32,100,100", "Tesla P4,odd,fp32,1,1"],
        [True, False],
    ),
    "conv": (
        "device,op,dtype,batch,c_in,c_out,kernel_size,in_size,stride,padding",
        ["Tesla T4,conv2d,fp32,8,64,64,3,14,1,1", "Tesla T4,conv2d,odd,8,64,64,3,14,1,1"],
        [True, False],
    ),
    "attention": (
        "device,attn_dtype,kv_cache_dtype,batch_size,isl,step,num_heads,num_kv_heads,"
        "head_dim,window_size,above_dram_bw",
        [f"{A100},bfloat16,bfloat16,8,1,1023,32,8,128,0,0", f"{A100},bfloat16,fp8,8,1,1023,32,0,128,128,0"],
        [True, True],
    ),
    "mla": (
        "device,mla_dtype,kv_cache_dtype,batch_size,isl,step,num_heads",
        ["NVIDIA B200,bfloat16,fp8,8,1,1023,16", "NVIDIA B200,odd,fp8,8,1,1023,16"],
        [True, False],
    ),
    "moe": (
        "device,moe_dtype,num_tokens,hidden_size,inter_size,topk,num_experts,moe_tp_size,"
        "moe_ep_size,distribution",
        [
            "NVIDIA B200,bfloat16,512,2048,768,8,128,1,4,balanced",
            "NVIDIA B200,w4a8_mxfp4_mxfp8,512,2048,768,8,128,2,1,power_law_1.2",
            "NVIDIA B200,bfloat16,512,2048,768,8,128,1,4,odd",
        ],
        [True, True, False],
    ),
    "mamba2": (
        "device,op,phase,batch_size,seq_len,d_state,d_conv,nheads,head_dim,n_groups,chunk_size",
        [
            "NVIDIA B200,causal_conv1d_fn,context,4,128,128,4,64,64,8,128",
            "NVIDIA B200,causal_conv1d_update,generation,4,1,128,4,64,64,8,128",
            "NVIDIA B200,selective_state_update,generation,4,1,128,4,64,64,8,128",
            "NVIDIA B200,mamba_chunk_scan_combined,context,4,128,128,4,64,64,8,128",
            "NVIDIA B200,odd,context,4,128,128,4,64,64,8,128",
        ],
        [True, True, True, True, False],
    ),
    "gdn": (
        "device,op,batch_size,seq_len,d_conv,num_k_heads,head_k_dim,num_v_heads,head_v_dim",
        [
            "NVIDIA B200,causal_conv1d_fn,4,100,4,16,128,32,128",
            "NVIDIA B200,causal_conv1d_update,4,1,4,16,128,32,128",
            "NVIDIA B200,chunk_gated_delta_rule_triton,4,100,4,16,128,32,128",
            "NVIDIA B200,fused_recurrent_gated_delta_rule,4,1,4,16,128,32,128",
            "NVIDIA B200,odd,4,1,4,16,128,32,128",
        ],
        [True, True, True, True, False],
    ),
    "vidur": (
        "device,op,dtype,m,k,n,num_tokens,tp,n_embd,ffn_dim,gated",
        [
            f"{A100},{op},fp16,64,{k},512,64,1,512,1024,{gated}"
            for op, k, gated in (
                ("mlp_up_proj", 512, 1),
                ("mlp_act", 0, 1),
                ("mlp_act", 0, 0),
                ("attn_rope", 0, 1),
                ("input_layernorm", 0, 1),
                ("add", 0, 1),
                ("emb", 0, 1),
                ("odd", 0, 1),
            )
        ],
        [True] * 7 + [False],
    ),
    "vllm_layers": (
        "device,op,dtype,tp,rows,hidden_size,intermediate_size,num_attention_heads,"
        "num_key_value_heads,head_dim,vocab_size",
        [
            f"NVIDIA RTX 4090,{op},bf16,2,64,4096,14336,32,8,128,128256"
            for op in (
                "qkv_proj",
                "o_proj",
                "gate_up_proj",
                "down_proj",
                "lm_head",
                "layernorm",
                "qk_norm",
                "act_fn",
                "rotary_emb",
                "embedding",
                "sampler",
                "odd",
            )
        ],
        [True] * 11 + [False],
    ),
    "torchprof_layers": (
        "device,op,tp,num_tokens,k,n,implausible,hidden_size,intermediate_size,"
        "num_attention_heads,num_key_value_heads,vocab_size",
        [
            f"{device},{op},1,64,{k},{n},0,4096,14336,32,8,128256"
            for device in ("NVIDIA RTX A6000", "TPU v6e (1 chip)")
            for op, k, n in (
                ("q_proj", 4096, 4096),
                ("rope", 0, 0),
                ("input_layernorm", 0, 0),
                ("act_fn", 0, 0),
                ("attn", 0, 0),
                ("embedding", 0, 0),
                ("expert.w2", 0, 0),
                ("gate", 0, 0),
                ("odd", 0, 0),
            )
        ],
        ([True] * 8 + [False]) * 2,
    ),
    "attention_chunks": (
        "device,dtype,num_heads,num_kv_heads,head_dim,phase,batch_size,prefill_chunk_size,kv_cache_size",
        [f"{A100},bf16 (assumed),32,8,128,{p},4,64,512" for p in ("prefill", "decode", "odd")],
        [True, True, False],
    ),
    "attention_mixed": (
        "device,dtype,tp,num_attention_heads,num_key_value_heads,head_dim,prefill_chunk,"
        "kv_prefill,n_decode,kv_decode",
        [f"{A100},bf16,1,32,8,128,{c},512,{n},256" for c, n in ((64, 8), (64, 0), (0, 8), (0, 0))],
        [True, True, True, False],
    ),
    "moe_activated": (
        "device,dtype,tp,tokens,activated_experts,hidden_size,moe_intermediate_size,num_experts_per_tok",
        [f"{A100},bf16,1,64,16,2048,768,8", f"{A100},odd,1,64,16,2048,768,8"],
        [True, False],
    ),
    "gpt3_layer": (
        "device,phase,op,dtype,batch,seq_len,kv_len,d_model,n_heads,tp",
        [
            f"4x {A100},{p},{op},fp16,8,512,512,1024,16,4"
            for p, op in (
                ("prefill", "Q_K_V"),
                ("prefill", "Q_mul_K"),
                ("decode", "A_mul_V"),
                ("prefill", "Softmax"),
                ("prefill", "LayerNorm_MHA"),
                ("prefill", "GeLU"),
                ("prefill", "AllReduce_MHA"),
            )
        ],
        [True] * 7,
    ),
    "torch_trace": (
        "device,torch_op,input_shapes,dtype",
        [
            f'{A100},aten::addmm,"[[512],[1024,256],[256,512]]",fp16',
            f'{A100},aten::bmm,"[[8,64,32],[8,32,64]]",fp16',
            f'{A100},aten::linear,"[[2,64,256],[512,256]]",bf16',
            f'{A100},aten::_softmax,"[[64,64]]",fp32',
            f'{A100},aten::embedding,"[[1000,64],[2,8]]",fp32',
            f'{A100},aten::gelu,"[[64,64]]",fp32',
            f'{A100},aten::embedding,"[[1000],[2,8]]",fp32',
            f'{A100},aten::gelu,"[[64,64]]",odd',
            f'{A100},aten::gelu,"[[1e400]]",fp32',
            f'{A100},aten::gelu,"[[-64,-64,64]]",fp32',
            f'{A100},odd,"[[64,64]]",fp32',
        ],
        [True] * 6 + [False] * 5,
    ),
    "neusight_ops": (
        "device,op,input_shapes,output_shape,fw_ops,bw_ops,fw_us,bw_us,acc_us",
        [
            'Tesla T4,Linear,"[[2,64,128]]","(2,64,256)","[]","[[\'Linear\',(128,256,128)],'
            "['Linear',(128,128,256)]]\",1,1,1",
            'Tesla T4,BMM,"[[2,4,8,16],[2,4,16,8]]","(2,4,8,8)","[]","[]",1,0,0',
            'Tesla T4,VECadd,"[[2,64],[2,64]]","(2,64)","[]","[[\'MEM\',((2,64),)]]",1,1,0',
            'Tesla T4,where,"[[1,64],[2,64],[1]]","(2,64)","[]","[]",1,0,0',
            'Tesla T4,EMBEDDING,"[[2,64]]","(2,64,128)","[]","[[\'MEM\',((9,128),)]]",1,1,1',
            'Tesla T4,VECadd,"[[2,","(2,64)","[]","[]",1,0,0',
            'Tesla T4,odd,"[[2,64]]","(2,64)","[]","[]",1,0,0',
        ],
        [True] * 5 + [False] * 2,
    ),
    "neusight_models": (
        "device,model,mode,seq_len,batch,option,n_gpus",
        [
            "Tesla T4,bert,train,64,2,eager,1",
            "Tesla T4,bert,inf,64,2,tp4,4",
            "Tesla T4,bert,inf,64,2,tp4,1e400",
            "Tesla T4,bert,inf,64,2,tp4,2",
            "Tesla T4,bert,odd,64,2,tp4,4",
            "Tesla T4,bert,inf,64,2,dp4,4",
            "Tesla T4,odd,inf,64,2,eager,1",
        ],
        [True, True, False, False, False, False, False],
    ),
    "timm": (
        "device,model,mode,dtype,layout,compiled,batch_size,img_size,torch",
        [
            "NVIDIA RTX 3090,vit_small_patch32_384,infer,amp_fp16,nchw,0,64,384,210",
            "NVIDIA RTX 3090,vit_huge_patch14_gap_224,infer,amp_fp16,nhwc,1,64,224,113",
            "NVIDIA RTX 3090,resnet50,infer,amp_fp16,nchw,0,64,224,210",
            "NVIDIA RTX 3090,vit_small_patch32_384,train,amp_fp16,nchw,0,64,384,210",
        ],
        [True, True, False, False],
    ),
    "llama_bench": (
        "device,n_gpus,llama_generation,model,phase,tokens",
        [
            "3090 24GB,2,LLaMA 3,8B F16,pp,512",
            "3090 24GB,1,LLaMA 3,8B Q9_9,tg,512",
            "3090 24GB,1,odd,1B F16,tg,512",
        ],
        [False] * 3,
    ),
    "ollama": (
        "model,device,engine_device",
        ["Odd 3b,Pi 5 - 16GB,CPU", "Llama 3.2:3b,Framework Mainboard Cluster,GPU"],
        [False, False],
    ),
    "decode_tokens": (
        "framework,device,model,dtype,n_gpus,batch",
        [
            "MLC LLM,A100,Llama2-70B,fp16,8,1",
            "MLC LLM,A100,Llama2-70B,fp16,-8,1",
            "MLC LLM,A100,Llama2-70B,fp16,1e400,1",
            "MLC LLM,A100,Odd,fp16,1,1",
            "MLC LLM,A100,Llama2-7B,odd,1,1",
        ],
        [True] + [False] * 4,
    ),
    "optimum": (
        "device,model,task,backend,dtype,quant,bettertransformer,peft,batch,seq_len,new_tokens,forward_us,"
        "generate_us,decode_us,train_samples_per_s",
        [
            f"{A100},TheBloke/LLaMa-65B-GPTQ,text-generation,pytorch,float16,gptq,False,,2,256,512,1,1,1,",
            f"{A100},BAAI/bge-base-en-v1.5,feature-extraction,onnxruntime,,none,,,2,256,,1,,,",
            f"{A100},meta/odd,text-generation,pytorch,float16,none,False,,2,256,512,1,1,1,",
            f"{A100},TheBloke/LLaMa-65B-GPTQ,text-generation,pytorch,float16,gptq,False,lora,2,256,,,,,3",
        ],
        [True, True, False, False],
    ),
    "fastertransformer": (
        "device,guide,section,config,kind,precision,batch,seq_len,input_len,output_len",
        [
            "A100,bert,s,Performance on FP16,FT,FP16,8,128,,",
            "T4,bert,s,,EFF-FT-INT8-v2,INT8-V2,8,128,,",
            'A100,bert,s,head_num = 32; size_per_head = 128; num_layers = 32,"TP1, PP1",FP16,1,32,,',
            'A100,bert,s,head_num = 32; size_per_head = 128; num_layers = 32,"TP2, PP1",FP16,1,32,,',
            "A100,vit,s,,L_16-224 (INT8),INT8,8,,,",
            "A100,gpt,s,"
            "head_num = 16; size_per_head = 64; num_layers = 24; tensor_para_size = 1,FT,FP16,1,,128,8",
            "A100,gpt,s,"
            "head_num = 16; size_per_head = 64; num_layers = 24; tensor_parallel_size = 8,FT,FP16,1,,128,8",
            "A100 MIG,bert,s,,A100 MIG,FP16,8,128,,",
            "A100,decoder,s,,Topk/Topp,FP16,8,,,",
        ],
        [True, True, True, False, True, True, False, False, False],
    ),
    "bytetransformer": (
        "device,model,dtype,batch,max_seq_len,avg_over_max_len,framework",
        [
            f"NVIDIA A100,BERT 12L 12H 64,fp16,1,{n},0.6,{f}"
            for f in ("ByteTransformer", "FasterTransformer remove-padding", "DeepSpeed")
            for n in (128, 1024)
        ]
        + ["NVIDIA A100,odd,fp16,1,128,0.6,DeepSpeed"],
        [True] * 6 + [False],
    ),
    "whisper_bench": (
        "device,backend,model,threads,flash_attn",
        ["M1 Pro,NEON,tiny,4,0", "M1 Pro,METAL,odd,1,0", "M1 Pro,METAL,tiny-q9_9,1,0"],
        [False] * 3,
    ),
    "cpu_products": (
        "section,dtype,m,n,k,gflops,n_runs",
        ["M1 Pro (old),F32,64,64,64,1,1", "M1 Pro (old),Q5_0,64,64,64,1,1", "odd,F32,64,64,64,1,1"],
        [True, True, False],
    ),
    "splitwise": (
        "device,model,tensor_parallel,prompt_tokens,batch_size,output_tokens",
        [
            f"{A100},llama2-70b,4,512,1,128",
            f"{A100},llama2-70b,1e400,512,1,128",
            f"{A100},llama2-70b,2.5,512,1,128",
            f"{A100},odd,1,512,1,128",
        ],
        [True, False, False, False],
    ),
    "serving": (
        "device,model,precision,mode,isl,osl,concurrency,tp_size,pp_size,"
        "attention_dp_size,moe_tp_size,moe_ep_size",
        [
            "NVIDIA B200,meta-llama/LLaMa-65B,fp8,agg,1024,128,8,1,1,,1,1",
            "NVIDIA B200,meta-llama/LLaMa-65B,fp8,agg,1024,128,8,1,1,16,4,4",
            "NVIDIA B200,meta-llama/LLaMa-65B,fp8,disagg,1024,128,8,,,,,",
            "NVIDIA B200,odd/odd,fp8,agg,1024,128,8,1,1,,,",
        ],
        [True, False, False, False],
    ),
    "serving_published": ("device,model,metric,statistic,measured_us", ["NVIDIA L4,x,ttft,mean,5"], [False]),
    "served_energy": (
        "device,model,task,weight_precision,num_gpus,avg_batch_size,avg_output_len,"
        "total_params_b,activated_params_b",
        [
            "NVIDIA H100,nvidia/Nemotron-12B,gpqa,bfloat16,1,8,5000,12,12",
            "NVIDIA B200,openai/gpt-oss-120b,gpqa,mxfp4,1,512,500,117,5",
            "NVIDIA H100,odd/MoE,gpqa,fp8,1,8,500,100,10",
            "NVIDIA H100,odd/odd,gpqa,bfloat16,1,8,5000,,",
            "NVIDIA H100,odd/odd,gpqa,bfloat16,8,8,5000,12,12",
            "NVIDIA H100,odd/odd,gpqa,bfloat16,1e400,8,5000,12,12",
        ],
        [True, True, True, False, False, False],
    ),
    "diffusion": (
        "device,task,model,weight_precision,num_gpus,batch_size,height,width,num_frames,inference_steps",
        [
            "NVIDIA B200,text-to-image,black-forest-labs/FLUX.1-dev,bfloat16,1,2,1024,1024,,50",
            "NVIDIA B200,text-to-video,Wan-AI/Wan2.1-T2V-1.3B-Diffusers,bfloat16,1,1,480,832,81,50",
            "NVIDIA B200,text-to-image,odd/odd,bfloat16,1,2,1024,1024,,50",
            "NVIDIA B200,text-to-image,black-forest-labs/FLUX.1-dev,bfloat16,4,2,1024,1024,,50",
        ],
        [True, True, False, False],
    ),
    "energy": (
        "device,n_gpus,model,total_params_b,active_params_b,precision,phase,task,batch,"
        "avg_batch,input_tokens,"
        "output_tokens,energy_unit,notes",
        [
            "B200,1,FLUX.1-dev,12,12,bfloat16,diffusion inference,text-to-image,2,,,,J/image,"
            '"1024x1024, 50 steps"',
            "H100,1,nvidia/Nemotron,12,12,bfloat16,serving (vLLM),gpqa,8,7.9,,5000,J/output token,",
            "A100 40GB (Argonne Swing),1,Falcon (7B),,,see source,"
            "HF generate (prefill+decode),fixed,32,,8,32,J/run,",
            'A100 40GB (Argonne Swing),1,Falcon (7B),,,fp16,"offline generate (vLLM)",a,64,,,'
            "99.5,J,128 responses",
            "A40,1,bert_base_uncased,0.1,0.1,training default,training (1 epoch),squad,12,,,,J/epoch,",
            "8 x A100,8,gpt2,,,,inference (1 sample at a time),x,1,,,,J/1000 inferences,",
            "H100,4,nvidia/Nemotron,12,12,bfloat16,serving (vLLM),gpqa,8,7.9,,5000,J/output token,",
            "H100,1,x,12,12,bfloat16,odd,gpqa,8,7.9,,5000,J/output token,",
        ],
        [True] * 4 + [False] * 4,
    ),
    "tpu_kernels": (
        "device,op,M,K,N,shape,elements,dtype,duration_us_avg",
        [
            "tpu-v4,matmul,128,256,512,,,f16,1",
            "tpu-v4,layer_norm,,,,16x512,8192,f16,1",
            "tpu-v4,add,,,,1024,1024,f16,1",
            "tpu-v4,odd,,,,1024,1024,f16,1",
        ],
        [True, True, True, False],
    ),
    "tpu_products": (
        "device,op,dtype,m,n,k,latency_us,note",
        ["TPU v7x (Ironwood) one device,matmul,bf16,256,256,256,2,traced", "tpu-v4,odd,bf16,1,1,1,1,"],
        [True, False],
    ),
    "best_matmul": (
        "device,op,dtype,m,n,k,best_tflops,theory_tflops,latency_us",
        ["NVIDIA A100 SXM,matmul,bf16,1024,1024,1024,200,312,9", "NVIDIA A100 SXM,matmul,odd,1,1,1,1,1,1"],
        [True, False],
    ),
    "layer_rates": (
        "device,workload,dtype,best_tflops",
        ["A100,matmul,fp16,200", "3090 Ti,vector_mul,fp32,0.1", "A100,bert_layer_fwd,fp16,100"],
        [True, True, False],
    ),
    "mobile_vision": (
        "device,model,task,resolution,batch,protocol",
        ["Apple iPhone 12,EfficientViT-SAM-L0,sam,512x512,1,Core ML"],
        [False],
    ),
    "maxtext": (
        "device,model,n_slices,n_chips,global_batch,seq_len",
        ["TPU v4,x,2,64,,", "TPU v4,x,1,1,,"],
        [False, False],
    ),
    "collectives": (
        "device,op,num_gpus,message_bytes,latency_us",
        [
            f"{A100},all_reduce,4,1024,9",
            f"{A100},all_reduce,1,1024,9",
            f"{A100},all_reduce,[[,1024,9",
            "x,all_reduce,4,1024,9",
        ],
        [True, False, False, False],
    ),
    "local_runs": (
        "model,mode,batch,seq,dtype,device,stack,latency_us,repeatability",
        [
            "bert-base,forward,1,64,fp32,AMD EPYC 9654,eager,9000,0.02",
            "vit-b-16,forward,2,,fp32,AMD EPYC 9654,compiled,9000,0.02",
            "vit-b-16,forward,2,16,fp32,AMD EPYC 9654,eager,9000,0.02",
            "odd,forward,1,64,fp32,AMD EPYC 9654,eager,9000,0.02",
            "bert-base,forward,1,64,fp33,AMD EPYC 9654,eager,9000,0.02",
        ],
        [True, True, False, False, False],
    ),
    "tables_of_facts": ("device,mem_bw_gbs,mem_gb", ["x,1,1"], [False]),
}
