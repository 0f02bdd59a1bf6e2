# Completion of elan-sr for bash.

_elan_sr() {
  local commands='upscale bench eval compare tune export build quantize info help'
  local engine='-m --model -s --scale -d --device -g --gpu -p --precision --plan -t --tile
    --max-memory --threads'
  local upscale="-i --input -o --output -r --recursive $engine -j --jobs -f --format -q --quality
    --lossless --width --height -x --tta --skip-existing --overwrite --check --no-check --progress -v --verbose -h --help"
  local bench="$engine --size -i --input --batch --warm-up --warmUp --iterations --duration --percentile
    --profile --json -h --help"
  local eval="$engine --data --rows --repeat --pictures --markdown --json -h --help"
  local compare="$engine -i --input --random --size --seed --reference --ref-model --ref-device
    --ref-precision --ref-plan --crop --stages --map --tolerance --mean-tolerance --json -h --help"
  local tune="$engine -i --input -o --output --precisions --error --time --size --crop --pictures
    --state --report --json -h --help"
  local export='-m --model -o --output -s --scale --size --padding -p --precision --plan --plugins -h --help'
  local quantize='-m --model -o --output -s --scale --data --shrink --crops --size --search --keep
    --attention --seed --report --threads -h --help'
  local build='-m --model -o --output -s --scale -p --precision --plan --calibrate --size --min --opt --max
    --batch --effort --plugins --loose -g --gpu --again -h --help'
  local info='-m --model --json -h --help'

  local current=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD - 1]} words=
  # bash hands over --progress=auto as three words.
  if [[ $current == = ]]; then
    current=
  elif [[ $previous == = ]]; then
    previous=${COMP_WORDS[COMP_CWORD - 2]}
  fi

  # Options without a command are those of upscale.
  local command=${COMP_WORDS[1]} options=$upscale
  case $command in
    bench) options=$bench ;;
    eval) options=$eval ;;
    compare) options=$compare ;;
    tune) options=$tune ;;
    export) options=$export ;;
    quantize) options=$quantize ;;
    build) options=$build ;;
    info) options=$info ;;
  esac

  case $previous in
    -m | --model | --ref-model)
      words="light full $(elan-sr info 2>/dev/null | sed 's/ .*//')"
      ;;
    -s | --scale) words='2 3 4' ;;
    -d | --device | --ref-device) words='auto cpu reference cuda tensorrt' ;;
    -p | --precision | --ref-precision) words='fp32 tf32 bf16 fp16 fp8 int8 fp64' ;;
    -f | --format) words='png jpg webp tiff avif heic jxl ppm gif' ;;
    --padding) words='inside outside' ;;
    --progress) words='auto json none' ;;
    -i | --input | -o | --output | --data | --calibrate | --plan | --ref-plan | --reference | --state | --report | --rows) return ;;
    -g | --gpu | -t | --tile | --max-memory | --threads | -j | --jobs | -q | --quality | --width | --height | \
      --size | --min | --opt | --max | --seed | --crop | --repeat | --tolerance | --mean-tolerance | --precisions | --error | --time | --batch | --warm-up | --warmUp | --crops | --search | --keep | --iterations | --duration | --percentile)
      return
      ;;
    *)
      if [[ $current == -* ]]; then
        words=$options
        ((COMP_CWORD == 1)) && words+=' --version'
      elif ((COMP_CWORD == 1)); then
        words=$commands
      elif [[ $command == help ]]; then
        words=${commands% help}
      elif [[ $command == info || ($command == @(export|build|quantize) && $COMP_CWORD == 2) ]]; then
        words=$(elan-sr info 2>/dev/null | sed 's/ .*//')
      fi
      ;;
  esac
  # Nothing to offer leaves file names, which bash completes by itself.
  mapfile -t COMPREPLY < <(compgen -W "$words" -- "$current")
}

complete -o bashdefault -o default -F _elan_sr elan-sr
