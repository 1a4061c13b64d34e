#!/usr/bin/env bash
# Make the films and sounds beside this file, with ffmpeg: each of a tenth of a second, and as small as can be.
set -euo pipefail
cd "$(dirname "$0")"

make() { ffmpeg -hide_banner -loglevel error -y -f lavfi -i testsrc=size=32x32:rate=10:duration=0.2 -f lavfi -i sine=duration=0.2:sample_rate=8000 "$@"; }
film() { make -map 0:v -map 1:a -ac 1 -fflags +bitexact -flags +bitexact "$@"; }
silent() { make -map 0:v -fflags +bitexact "$@"; }
sound() { make -map 1:a -ac 1 -fflags +bitexact -flags +bitexact "$@"; }

film -c:v libx264 -pix_fmt yuv420p -c:a aac film.mp4
film -c:v libx264 -pix_fmt yuv420p -c:a aac -movflags +faststart faststart.mp4
film -c:v libx264 -pix_fmt yuv420p -c:a aac -movflags frag_keyframe+empty_moov+default_base_moof fragments.mp4
film -c:v libx264 -pix_fmt yuv420p -c:a aac -brand mp42 phone.mp4
film -c:v libx264 -pix_fmt yuv420p -c:a aac camera.mov
film -c:v libx264 -pix_fmt yuv420p -c:a aac -f ipod itunes.m4v
film -c:v libx264 -pix_fmt yuv420p -c:a aac -f psp psp.mp4
film -c:v mpeg4 -c:a aac phone.3gp
film -c:v mpeg4 -c:a aac phone.3g2
film -c:v libx264 -pix_fmt yuv420p -c:a aac film.mkv
film -c:v libx264 -pix_fmt yuv420p -c:a aac -f mpegts broadcast.ts
film -c:v libx264 -pix_fmt yuv420p -c:a aac -f mpegts -mpegts_m2ts_mode 1 camera.mts
film -c:v libx264 -pix_fmt yuv420p -c:a aac film.flv
film -c:v libvpx -c:a libvorbis film.webm
film -c:v libtheora -c:a libvorbis film.ogv
film -c:v mpeg4 -c:a libmp3lame -ar 16000 film.avi
film -c:v mjpeg -c:a pcm_s16le camera.avi
film -c:v wmv2 -c:a wmav2 -ar 16000 film.wmv
film -c:v mpeg2video -r 25 -c:a mp2 -ar 48000 -f vob disc.vob
silent -c:v mpeg1video -r 25 -f mpeg1video video.m1v
silent -c:v libx264 -pix_fmt yuv420p silent.mp4
silent -c:v libvpx silent.webm
silent -c:v ffv1 -f nut film.nut
silent -c:v libvpx film.ivf
silent -pix_fmt yuv420p -vframes 1 film.y4m
silent -c:v mpeg2video -r 25 film.mxf
sound -c:a aac memo.m4a
sound -c:a aac -f mp4 memo.mp4
sound -c:a aac -f mp4 -movflags frag_keyframe+empty_moov recorded.mp4
sound -c:a aac -f mov memo.mov
sound -c:a aac memo.3gp
sound -c:a aac memo.3g2
sound -c:a aac -f adts music.aac
sound -c:a libopus -ar 48000 recorded.webm
sound -c:a libopus -ar 48000 voice.opus
sound -c:a libopus -ar 48000 music.mka
sound -c:a libvorbis music.ogg
sound -c:a libspeex speech.spx
sound -c:a flac -f ogg flac.oga
sound -c:a wmav2 -ar 16000 music.wma
sound -c:a libmp3lame -ar 16000 -id3v2_version 3 music.mp3
sound -c:a libmp3lame -ar 16000 -id3v2_version 0 -write_xing 0 bare.mp3
sound -c:a mp2 -ar 16000 music.mp2
sound -c:a pcm_s16le sound.wav
sound -c:a pcm_s16le -rf64 always long.wav
sound -c:a flac music.flac
sound -c:a pcm_s16be sound.aiff
sound -c:a pcm_s16be sound.caf
sound -c:a pcm_s16be sound.au
sound -c:a wavpack music.wv

# Their beginnings tell what they are.
for large in film.avi camera.avi film.mxf disc.vob music.flac; do
  truncate --size 4096 "$large"
done
