# Completion of elan-sr for fish.

function __elan_sr_models
    printf '%s\n' light full
    elan-sr info 2>/dev/null | string replace -r ' .*' ''
end

# Options without a command are those of upscale.
function __elan_sr_upscales
    set -l words (commandline -opc)
    test (count $words) -lt 2; or string match -qr '^(upscale$|-)' -- $words[2]
end

function __elan_sr_runs_a_model
    __elan_sr_upscales; or __fish_seen_subcommand_from bench eval compare tune
end

complete -c elan-sr -n __fish_use_subcommand -f -a upscale -d 'Enlarge pictures'
complete -c elan-sr -n __fish_use_subcommand -f -a bench -d 'Time a model, and compare with the peak of the machine'
complete -c elan-sr -n __fish_use_subcommand -f -a eval -d 'Measure PSNR and SSIM on test sets'
complete -c elan-sr -n __fish_use_subcommand -f -a compare -d 'Measure how far one run is from another'
complete -c elan-sr -n __fish_use_subcommand -f -a tune -d 'Find the precision that each operation needs'
complete -c elan-sr -n __fish_use_subcommand -f -a export -d 'Write a model as ONNX, for other runtimes'
complete -c elan-sr -n __fish_use_subcommand -f -a quantize -d 'Make an 8-bit model from pictures'
complete -c elan-sr -n __fish_use_subcommand -f -a build -d 'Build a TensorRT engine'
complete -c elan-sr -n __fish_use_subcommand -f -a info -d 'Describe a model, or list the shipped ones'
complete -c elan-sr -n __fish_use_subcommand -f -a help -d 'Say more about a command'
complete -c elan-sr -n __fish_use_subcommand -l version -d 'Print version, build and formats'
complete -c elan-sr -s h -l help -d 'Print help'

complete -c elan-sr -n __elan_sr_upscales -s i -l input -r -F -d 'Picture, folder or -'
complete -c elan-sr -n __elan_sr_upscales -s o -l output -r -F -d 'Picture, folder or -'
complete -c elan-sr -n __elan_sr_upscales -s r -l recursive -d 'Look into folders inside folders'
complete -c elan-sr -n __elan_sr_runs_a_model -s m -l model -r -a '(__elan_sr_models)' -d 'Model, by name or file'
complete -c elan-sr -n __elan_sr_runs_a_model -s s -l scale -x -a '2 3 4' -d 'How many times larger'
complete -c elan-sr -n __elan_sr_runs_a_model -s d -l device -x -a 'auto cpu reference cuda tensorrt' -d Device
complete -c elan-sr -n __elan_sr_runs_a_model -s g -l gpu -x -d 'GPUs by number, -1 means the CPU'
complete -c elan-sr -n __elan_sr_runs_a_model -s p -l precision -x -a 'fp32 tf32 bf16 fp16 fp8 int8 fp64' -d Arithmetic
complete -c elan-sr -n __elan_sr_runs_a_model -l plan -r -F -d 'A precision for each operation instead'
complete -c elan-sr -n __elan_sr_runs_a_model -s t -l tile -x -d 'Side of a tile in pixels, 0 chooses'
complete -c elan-sr -n __elan_sr_runs_a_model -l max-memory -x -d 'Memory to use, such as 2G'
complete -c elan-sr -n __elan_sr_runs_a_model -l threads -x -d 'CPU threads, 0 for every core'
complete -c elan-sr -n __elan_sr_upscales -s j -l jobs -x -d 'Pictures in flight at once'
complete -c elan-sr -n __elan_sr_upscales -s f -l format -x -a 'png jpg webp tiff avif heic jxl ppm gif' -d 'Format to write'
complete -c elan-sr -n __elan_sr_upscales -s q -l quality -x -d 'Quality of lossy formats, 1 to 100'
complete -c elan-sr -n __elan_sr_upscales -l lossless -d 'Lose nothing, where the format can'
complete -c elan-sr -n __elan_sr_upscales -l width -x -d 'Width to write'
complete -c elan-sr -n __elan_sr_upscales -l height -x -d 'Height to write'
complete -c elan-sr -n __elan_sr_upscales -s x -l tta -d 'Average over eight orientations'
complete -c elan-sr -n __elan_sr_upscales -l no-check -d 'Do not compare a sample with fp32'
complete -c elan-sr -n __elan_sr_upscales -l check -d 'Compare it whatever time that takes'
complete -c elan-sr -n __elan_sr_upscales -l skip-existing -d 'Leave outputs that exist'
complete -c elan-sr -n __elan_sr_upscales -l overwrite -d 'Replace outputs that exist'
complete -c elan-sr -n __elan_sr_upscales -l progress -x -a 'auto json none' -d 'How to tell the progress'
complete -c elan-sr -n __elan_sr_upscales -s v -l verbose -d 'Say what is used and what was done'

complete -c elan-sr -n '__fish_seen_subcommand_from bench' -l size -x -d 'Size of the picture that is timed'
complete -c elan-sr -n '__fish_seen_subcommand_from bench' -s i -l input -r -F -d 'Time this picture instead'
complete -c elan-sr -n '__fish_seen_subcommand_from bench' -l batch -x -d 'Pictures in one pass'
complete -c elan-sr -n '__fish_seen_subcommand_from bench' -l warm-up -x -d 'Milliseconds to run before timing'
complete -c elan-sr -n '__fish_seen_subcommand_from bench' -l warmUp -x -d 'Milliseconds to run before timing'
complete -c elan-sr -n '__fish_seen_subcommand_from bench' -l iterations -x -d 'Runs, at least'
complete -c elan-sr -n '__fish_seen_subcommand_from bench' -l duration -x -d 'Milliseconds to time, at least'
complete -c elan-sr -n '__fish_seen_subcommand_from bench' -l percentile -x -d 'Percentiles to print'
complete -c elan-sr -n '__fish_seen_subcommand_from bench' -l profile -d 'Time per operation as well'
complete -c elan-sr -n '__fish_seen_subcommand_from bench' -l json -d 'Print one JSON object'

complete -c elan-sr -n '__fish_seen_subcommand_from eval' -l data -r -a '(__fish_complete_directories)' -d 'Folder of NAME_HR and NAME_LR pictures'
complete -c elan-sr -n '__fish_seen_subcommand_from eval' -l rows -r -F -d 'Compare precisions, plans or weights'
complete -c elan-sr -n '__fish_seen_subcommand_from eval' -l repeat -x -d 'Time each picture so often'
complete -c elan-sr -n '__fish_seen_subcommand_from eval' -l markdown -d 'Print tables for documents'
complete -c elan-sr -n '__fish_seen_subcommand_from eval' -l pictures -d 'Print the figures of each picture too'
complete -c elan-sr -n '__fish_seen_subcommand_from eval' -l json -d 'Print one JSON object'

complete -c elan-sr -n '__fish_seen_subcommand_from compare' -s i -l input -r -F -d 'Picture or folder'
complete -c elan-sr -n '__fish_seen_subcommand_from compare' -l random -d 'Standard-normal samples instead'
complete -c elan-sr -n '__fish_seen_subcommand_from compare' -l size -x -d 'Size of the random samples'
complete -c elan-sr -n '__fish_seen_subcommand_from compare' -l seed -x -d 'Of the random samples'
complete -c elan-sr -n '__fish_seen_subcommand_from compare' -l reference -r -F -d 'Stored results to compare with'
complete -c elan-sr -n '__fish_seen_subcommand_from compare' -l ref-model -r -a '(__elan_sr_models)' -d 'Model to compare with'
complete -c elan-sr -n '__fish_seen_subcommand_from compare' -l ref-device -x -a 'auto cpu reference cuda tensorrt' -d 'Device to compare with'
complete -c elan-sr -n '__fish_seen_subcommand_from compare' -l ref-precision -x -a 'fp32 tf32 bf16 fp16 fp8 int8 fp64' -d 'Precision to compare with'
complete -c elan-sr -n '__fish_seen_subcommand_from compare' -l ref-plan -r -F -d 'Plan to compare with'
complete -c elan-sr -n '__fish_seen_subcommand_from compare' -l crop -x -d 'Only the middle of each picture'
complete -c elan-sr -n '__fish_seen_subcommand_from compare' -l stages -d 'Compare the stages of the network, too'
complete -c elan-sr -n '__fish_seen_subcommand_from compare' -l map -d 'With --json, where the errors are'
complete -c elan-sr -n '__fish_seen_subcommand_from compare' -l tolerance -x -d 'Largest absolute error allowed'
complete -c elan-sr -n '__fish_seen_subcommand_from compare' -l mean-tolerance -x -d 'Mean absolute error allowed'
complete -c elan-sr -n '__fish_seen_subcommand_from compare' -l json -d 'Print one JSON object'

complete -c elan-sr -n '__fish_seen_subcommand_from tune' -s i -l input -r -F -d 'Picture or folder'
complete -c elan-sr -n '__fish_seen_subcommand_from tune' -s o -l output -r -F -d 'The plan'
complete -c elan-sr -n '__fish_seen_subcommand_from tune' -l precisions -x -d 'What to choose from'
complete -c elan-sr -n '__fish_seen_subcommand_from tune' -l error -x -d 'Mean absolute error allowed'
complete -c elan-sr -n '__fish_seen_subcommand_from tune' -l time -x -d 'Time allowed, in milliseconds'
complete -c elan-sr -n '__fish_seen_subcommand_from tune' -l size -x -d 'Size of the picture for the times'
complete -c elan-sr -n '__fish_seen_subcommand_from tune' -l crop -x -d 'Use the middle of each picture'
complete -c elan-sr -n '__fish_seen_subcommand_from tune' -l pictures -x -d 'Use so many at most'
complete -c elan-sr -n '__fish_seen_subcommand_from tune' -l state -r -F -d 'Keep measurements here'
complete -c elan-sr -n '__fish_seen_subcommand_from tune' -l report -r -F -d 'Write everything measured'
complete -c elan-sr -n '__fish_seen_subcommand_from tune' -l json -d 'Print the report'

complete -c elan-sr -n '__fish_seen_subcommand_from export' -a '(__elan_sr_models)'
complete -c elan-sr -n '__fish_seen_subcommand_from export' -s m -l model -r -a '(__elan_sr_models)' -d 'Model, by name or file'
complete -c elan-sr -n '__fish_seen_subcommand_from export' -s o -l output -r -F -d 'ONNX file to write'
complete -c elan-sr -n '__fish_seen_subcommand_from export' -s s -l scale -x -a '2 3 4' -d 'Scale of a shipped model'
complete -c elan-sr -n '__fish_seen_subcommand_from export' -l size -x -d 'Fix the size of the input'
complete -c elan-sr -n '__fish_seen_subcommand_from export' -l padding -x -a 'inside outside' -d 'Where the picture is padded'
complete -c elan-sr -n '__fish_seen_subcommand_from export' -s p -l precision -x -a 'fp32 fp16 int8 fp8' -d Arithmetic
complete -c elan-sr -n '__fish_seen_subcommand_from export' -l plan -r -F -d 'A precision for each operation'
complete -c elan-sr -n '__fish_seen_subcommand_from export' -l plugins -d 'One node for each module'

complete -c elan-sr -n '__fish_seen_subcommand_from quantize' -a '(__elan_sr_models)'
complete -c elan-sr -n '__fish_seen_subcommand_from quantize' -s m -l model -r -a '(__elan_sr_models)' -d 'Model, by name or file'
complete -c elan-sr -n '__fish_seen_subcommand_from quantize' -s o -l output -r -F -d 'Weights file to write'
complete -c elan-sr -n '__fish_seen_subcommand_from quantize' -s s -l scale -x -a '2 3 4' -d 'Scale of a shipped model'
complete -c elan-sr -n '__fish_seen_subcommand_from quantize' -l data -r -a '(__fish_complete_directories)' -d 'Folder of pictures'
complete -c elan-sr -n '__fish_seen_subcommand_from quantize' -l shrink -d 'Make the pictures smaller by the scale first'
complete -c elan-sr -n '__fish_seen_subcommand_from quantize' -l crops -x -d 'Pieces of pictures to look at'
complete -c elan-sr -n '__fish_seen_subcommand_from quantize' -l size -x -d 'Their side in pixels'
complete -c elan-sr -n '__fish_seen_subcommand_from quantize' -l search -x -d 'Activations for which every observer is tried'
complete -c elan-sr -n '__fish_seen_subcommand_from quantize' -l keep -x -d 'Matrices to leave in floating point'
complete -c elan-sr -n '__fish_seen_subcommand_from quantize' -l attention -d 'q, v and the softmax in 8 bits too'
complete -c elan-sr -n '__fish_seen_subcommand_from quantize' -l seed -x -d 'Another selection of pieces'
complete -c elan-sr -n '__fish_seen_subcommand_from quantize' -l report -r -F -d 'JSON file to write'
complete -c elan-sr -n '__fish_seen_subcommand_from quantize' -l threads -x -d 'CPU threads, 0 for every core'

complete -c elan-sr -n '__fish_seen_subcommand_from build' -a '(__elan_sr_models)'
complete -c elan-sr -n '__fish_seen_subcommand_from build' -s m -l model -r -a '(__elan_sr_models)' -d 'Model, by name or file'
complete -c elan-sr -n '__fish_seen_subcommand_from build' -s o -l output -r -F -d 'Engine to write; default: the cache'
complete -c elan-sr -n '__fish_seen_subcommand_from build' -s s -l scale -x -a '2 3 4' -d 'Scale of a shipped model'
complete -c elan-sr -n '__fish_seen_subcommand_from build' -s p -l precision -x -a 'fp32 tf32 fp16 int8 fp8' -d Arithmetic
complete -c elan-sr -n '__fish_seen_subcommand_from build' -l plan -r -F -d 'A precision for each operation'
complete -c elan-sr -n '__fish_seen_subcommand_from build' -l calibrate -r -F -d 'TensorRT 8.6: pictures to find scales on'
complete -c elan-sr -n '__fish_seen_subcommand_from build' -l size -x -d 'Build for one size'
complete -c elan-sr -n '__fish_seen_subcommand_from build' -l min -x -d 'Smallest size'
complete -c elan-sr -n '__fish_seen_subcommand_from build' -l opt -x -d 'Size to be fastest at'
complete -c elan-sr -n '__fish_seen_subcommand_from build' -l max -x -d 'Largest size'
complete -c elan-sr -n '__fish_seen_subcommand_from build' -l batch -x -d 'Pictures in one pass, at most'
complete -c elan-sr -n '__fish_seen_subcommand_from build' -l effort -x -a '0 1 2 3 4 5' -d 'How much the builder tries'
complete -c elan-sr -n '__fish_seen_subcommand_from build' -l plugins -d 'Compute the body with the kernels of this project'
complete -c elan-sr -n '__fish_seen_subcommand_from build' -l loose -d 'TensorRT 8.6: FP16 anywhere'
complete -c elan-sr -n '__fish_seen_subcommand_from build' -s g -l gpu -x -d 'GPU by number'
complete -c elan-sr -n '__fish_seen_subcommand_from build' -l again -d 'Build even if the cache has the engine'

complete -c elan-sr -n '__fish_seen_subcommand_from info' -f -a '(__elan_sr_models)'
complete -c elan-sr -n '__fish_seen_subcommand_from info' -s m -l model -r -a '(__elan_sr_models)' -d 'Model, by name or file'
complete -c elan-sr -n '__fish_seen_subcommand_from info' -l json -d 'Print one JSON object'
