<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>
<qgis version="3.22" styleCategories="Symbology">
  <pipe>
    <rasterrenderer type="paletted" band="1" opacity="1" alphaBand="-1" nodataColor="">
      <colorPalette>
        <paletteEntry value="0" color="#e8e8e8" label="unchanged" alpha="255"/>
        <paletteEntry value="1" color="#d7301f" label="changed" alpha="255"/>
      </colorPalette>
    </rasterrenderer>
  </pipe>
</qgis>
