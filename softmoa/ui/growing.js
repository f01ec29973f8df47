// A plotly figure that is updated in place: gr.Plot builds its figure anew at every change, and
// what the legend had hidden would show again. Plotly itself comes with gr.Plot.
const place = element.querySelector('div');
const draw = () => {
  if (!window.Plotly) return setTimeout(draw, 100);
  if (!props.value?.data) return;
  const {data, layout, config} = JSON.parse(JSON.stringify(props.value)); // plotly changes its own
  // A phone has no room for one. In a tab that is hidden the figure has no width.
  if ((place.clientWidth || innerWidth) < 500) layout.showlegend = false;
  window.Plotly.react(place, data, layout, {...config, responsive: true});
};
watch('value', draw);
draw();
